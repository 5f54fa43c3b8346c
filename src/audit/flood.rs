//! Who was refused for sending too much, a moment ago.
//!
//! A request is recorded before its user's limits are asked, so that a user far beyond the rate limit could fill the queue
//! with requests that were all refused. What this tells bounds them.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

use super::exchange::User;

/// Users with the same slot are taken for each other: then the events of one that keeps within the limits have half of
/// the queue, too, while the other floods.
const SLOTS: usize = 1024;
/// Whoever floods is refused many times in a second.
const MOMENT_SECONDS: u64 = 2;

/// For each slot, when a user of it was refused last, in seconds since 1970.
#[derive(Debug)]
pub(super) struct Floods(Box<[AtomicI64]>);

/// A user's place, and when the request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    slot: usize,
    second: i64,
}

impl Asker {
    pub(super) fn of(user: &User<'_>, received: Timestamp) -> Self {
        Self { slot: user.session.slot, second: received.as_second() }
    }
}

/// The slot of the user with this object id. Entra gives object ids out; nobody chooses one that falls into another's slot.
pub(super) fn slot_of(oid: &str) -> usize {
    crc32fast::hash(oid.as_bytes()) as usize % SLOTS
}

impl Floods {
    /// The asker's request was refused, because the rate limit is used up.
    pub(super) fn note(&self, asker: Asker) {
        if let Some(slot) = self.0.get(asker.slot) {
            slot.store(asker.second, Ordering::Relaxed);
        }
    }

    /// Whether one of the asker's requests was refused a moment ago.
    pub(super) fn include(&self, asker: Asker) -> bool {
        let last = self.0.get(asker.slot).map_or(i64::MIN, |slot| slot.load(Ordering::Relaxed));
        // Also where the clock was set back since.
        asker.second.abs_diff(last) <= MOMENT_SECONDS
    }
}

impl Default for Floods {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| AtomicI64::new(i64::MIN)).collect())
    }
}
