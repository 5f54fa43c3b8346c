//! The stand-ins' time: the system's, plus an offset that a test may move forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A clock shared by all stand-ins of one test. Cloning gives another handle to the same clock.
#[derive(Clone, Debug, Default)]
pub struct Time {
    offset_millis: Arc<AtomicI64>,
}

impl Time {
    /// The present, as the stand-ins see it.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        let offset = jiff::SignedDuration::from_millis(self.offset_millis.load(Ordering::Relaxed));
        jiff::Timestamp::now() + offset
    }

    /// The present in whole seconds since 1970.
    #[must_use]
    pub fn unix(&self) -> i64 {
        self.now().as_second()
    }

    /// Moves the clock forward by `by` (whole milliseconds).
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_millis.fetch_add(millis, Ordering::Relaxed);
    }
}
