//! Token buckets, one for each user or address.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::RateLimit;

/// The buckets. Each is full at first and fills again at the limit's rate.
#[derive(Debug)]
pub(super) struct Buckets<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    limiter: RateLimiter<K, DashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self::with_clock(limit, MonotonicClock)
    }
}

impl<K: Hash + Eq + Clone, C: Clock> Buckets<K, C> {
    fn with_clock(limit: RateLimit, clock: C) -> Self {
        let refill = Duration::from_secs_f64(1.0 / limit.per_second);
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        // `None` is for a period of zero, which `RateLimit` has none of.
        let quota = Quota::with_period(refill).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let quota = quota.allow_burst(burst);
        Self { limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock) }
    }

    /// Takes one token; `false` when there is none.
    pub(super) fn take(&self, key: &K) -> bool {
        self.limiter.check_key(key).is_ok()
    }

    /// Forgets full buckets: a new one is full, too.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    /// The burst first, then as many as the rate gives; another key has its own; full buckets are forgotten.
    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let clock = FakeRelativeClock::default();
        let buckets = Buckets::with_clock(RateLimit { per_second: 50.0, burst: 300 }, clock.clone());
        assert_eq!((0..1_000).filter(|_| buckets.take(&"a")).count(), 300);
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..1_000).filter(|_| buckets.take(&"a")).count(), 50);
        assert!(buckets.take(&"b"));
        clock.advance(Duration::from_secs(5));
        buckets.sweep();
        assert_eq!(buckets.limiter.len(), 1, "b's bucket is full again, a's is not");
        clock.advance(Duration::from_secs(2));
        buckets.sweep();
        assert!(buckets.limiter.is_empty());
    }
}
