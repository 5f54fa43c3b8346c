//! Token buckets, one for each user or address.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::clock::pause;
use crate::config::RateLimit;

/// Whose token comes within this time waits for it. So a client that asks one thing after another, as `kubectl apply` does
/// with thousands of requests, is slowed to the rate; one that sends much at once is refused. nginx calls this delay.
const PATIENCE: Duration = Duration::from_millis(50);

/// The buckets. Each is full at first and fills again at the limit's rate.
#[derive(Debug)]
pub(super) struct Buckets<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, DashMapStateStore<K>, Monotonic, NoOpMiddleware<Moment>>,
}

/// Time that nobody sets back.
#[derive(Clone, Copy, Debug)]
struct Monotonic;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(super) fn new(limit: RateLimit) -> Self {
        let refill = Duration::from_secs_f64(1.0 / limit.per_second);
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        // `None` is for a period of zero, which `RateLimit` has none of.
        let quota = Quota::with_period(refill).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let quota = quota.allow_burst(burst);
        Self { limiter: RateLimiter::new(quota, DashMapStateStore::default(), Monotonic) }
    }

    /// Takes one token; `false` when there is none.
    pub(super) fn take(&self, key: &K) -> bool {
        self.limiter.check_key(key).is_ok()
    }

    /// The same, after a short wait for the next one.
    pub(super) async fn take_soon(&self, key: &K) -> bool {
        if self.take(key) {
            return true;
        }
        let until = Instant::now() + PATIENCE;
        while let Err(empty) = self.limiter.check_key(key) {
            let now = Instant::now();
            let wait = empty.wait_time_from(Moment(now));
            if now + wait > until {
                return false;
            }
            pause(wait).await;
        }
        true
    }

    /// Forgets full buckets: a new one is full, too.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl Clock for Monotonic {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, duration: Nanos) -> Self {
        Self(self.0 + Duration::from(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { per_second: 50.0, burst: 300 };

    /// The burst first, then as many as the rate gives; another key has its own; full buckets are forgotten.
    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(LIMIT);
        assert_eq!((0..1_000).filter(|_| buckets.take(&"a")).count(), 300);
        pause(Duration::from_secs(1)).await;
        assert_eq!((0..1_000).filter(|_| buckets.take(&"a")).count(), 50);
        assert!(buckets.take(&"b"));
        pause(Duration::from_secs(5)).await;
        buckets.sweep();
        assert_eq!(buckets.limiter.len(), 1, "b's bucket is full again, a's is not");
        pause(Duration::from_secs(2)).await;
        buckets.sweep();
        assert!(buckets.limiter.is_empty());
    }

    /// Who asks one thing after another is slowed to the rate; who asks much at once is refused.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_its_answers_is_slowed_and_not_refused() {
        let buckets = Buckets::new(LIMIT);
        let began = Instant::now();
        for _ in 0..400 {
            assert!(buckets.take_soon(&"a").await);
        }
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
        let at_once = futures_util::future::join_all((0..100).map(|_| buckets.take_soon(&"a"))).await;
        assert!(at_once.iter().filter(|taken| **taken).count() <= 3);
    }
}
