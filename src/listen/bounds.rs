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
}

/// The right to be connected; given back when dropped.
pub(super) struct Seat {
    _of_all: OwnedSemaphorePermit,
    of_address: Option<(IpAddr, Arc<DashMap<IpAddr, usize>>)>,
}

/// A seat that is taken and counted. It stays with the connection's bytes, whatever they become: a tunnel too.
pub(super) struct Seated {
    _seat: Seat,
    gauge: IntGauge,
}

impl Seated {
    pub(super) fn new(seat: Seat, metrics: &Metrics) -> Self {
        let gauge = metrics.connections.clone();
        gauge.inc();
        Self { _seat: seat, gauge }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Bounds {
    /// `per_address`: `None` for no bound.
    pub(super) fn new(all: usize, per_address: Option<usize>) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_address: per_address.map(|max| (max, Arc::default())) }
    }

    /// # Errors
    /// The metric's word for the bound that was met.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Seat, &'static str> {
        let of_all = self.all.clone().try_acquire_owned().map_err(|_| "too_many")?;
        let Some((max, counts)) = &self.per_address else {
            return Ok(Seat { _of_all: of_all, of_address: None });
        };
        let mut count = counts.entry(address).or_insert(0);
        if *count >= *max {
            return Err("too_many_of_address");
        }
        *count += 1;
        drop(count);
        Ok(Seat { _of_all: of_all, of_address: Some((address, counts.clone())) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
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

    /// Seats are given back, and one address cannot take them all.
    #[test]
    fn seats_are_bounded_and_given_back() {
        let bounds = Bounds::new(3, Some(2));
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = bounds.admit(one).unwrap();
        let _second = bounds.admit(one).unwrap();
        assert_eq!(bounds.admit(one).err(), Some("too_many_of_address"));
        let _third = bounds.admit(two).unwrap();
        assert_eq!(bounds.admit(two).err(), Some("too_many"));
        drop(first);
        assert!(bounds.admit(one).is_ok());
    }
}
