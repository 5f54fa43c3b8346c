//! How many connections may be open: in all, and from one address.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// Files that are not client connections: listeners, log, reloads, calls to Entra, and some to spare.
const RESERVE: u64 = 256;
/// Where the file limit is tiny or unknown.
const AT_LEAST: u64 = 64;

pub(super) struct Bounds {
    all: Arc<Semaphore>,
    per_address: Option<(usize, Arc<DashMap<IpAddr, usize>>)>,
}

/// The right to be connected; given back when dropped.
pub(super) struct Seat {
    _of_all: OwnedSemaphorePermit,
    of_address: Option<(IpAddr, Arc<DashMap<IpAddr, usize>>)>,
}

impl Bounds {
    pub(super) fn new(limits: Limits) -> Self {
        let carried = what_the_file_limit_carries();
        let all = limits.connections.map_or(carried, |asked| {
            if asked > carried {
                tracing::warn!(asked, carried, "ENTRADA_MAX_CONNECTIONS is more than the file limit carries");
            }
            asked.min(carried)
        });
        tracing::info!(max_connections = all, "listening");
        Self {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            per_address: limits.connections_per_address.map(|max| (max, Arc::default())),
        }
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

/// Raises the soft file limit to the hard one. A client connection may need one to the API server as well.
fn what_the_file_limit_carries() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    usize::try_from((files.saturating_sub(RESERVE) / 2).max(AT_LEAST)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seats are given back, and one address cannot take them all.
    #[test]
    fn seats_are_bounded_and_given_back() {
        let limits = Limits { streams_per_user: 1, connections: Some(3), connections_per_address: Some(2) };
        let bounds = Bounds::new(limits);
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
