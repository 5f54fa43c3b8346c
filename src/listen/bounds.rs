//! How many connections may be open: in all, and from one address.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

pub(super) struct Bounds {
    all: Arc<Semaphore>,
    per_address: Option<(usize, Arc<DashMap<IpAddr, usize>>)>,
    gauge: IntGauge,
}

/// One open connection, counted against the bounds and in the metric until it is dropped. It stays with the socket, also
/// when the connection becomes a tunnel.
pub(super) struct Admission {
    _of_all: OwnedSemaphorePermit,
    of_address: Option<(IpAddr, Arc<DashMap<IpAddr, usize>>)>,
    gauge: IntGauge,
}

impl Bounds {
    /// `per_address`: `None` for no bound.
    pub(super) fn new(all: usize, per_address: Option<usize>, metrics: &Metrics) -> Self {
        let per_address = per_address.map(|max| (max, Arc::default()));
        Self { all: Arc::new(Semaphore::new(all)), per_address, gauge: metrics.connections.clone() }
    }

    /// Counts a new connection.
    ///
    /// # Errors
    /// The bound that it would exceed, as the `reason` label of the metric `connections_refused`.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Admission, &'static str> {
        let of_all = self.all.clone().try_acquire_owned().map_err(|_| "too_many")?;
        let mut of_address = None;
        if let Some((max, counts)) = &self.per_address {
            let mut count = counts.entry(address).or_insert(0);
            if *count >= *max {
                return Err("too_many_of_address");
            }
            *count += 1;
            of_address = Some((address, counts.clone()));
        }
        self.gauge.inc();
        Ok(Admission { _of_all: of_all, of_address, gauge: self.gauge.clone() })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.gauge.dec();
        if let Some((address, counts)) = &self.of_address {
            if let Some(mut count) = counts.get_mut(address) {
                *count -= 1;
            }
            counts.remove_if(address, |_, count| *count == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A closed connection makes room for another, and one address cannot have them all.
    #[test]
    fn connections_are_bounded_and_make_room() {
        let metrics = Metrics::default();
        let bounds = Bounds::new(3, Some(2), &metrics);
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = bounds.admit(one).unwrap();
        let _second = bounds.admit(one).unwrap();
        assert_eq!(bounds.admit(one).err(), Some("too_many_of_address"));
        let _third = bounds.admit(two).unwrap();
        assert_eq!(bounds.admit(two).err(), Some("too_many"));
        assert_eq!(metrics.connections.get(), 3);
        drop(first);
        assert_eq!(metrics.connections.get(), 2);
        assert!(bounds.admit(one).is_ok());
    }
}
