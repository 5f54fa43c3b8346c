//! Token buckets.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::clock::pause;
use crate::config::RateLimit;

/// Whose token comes within this time waits for it. So a client that asks one thing after another, as `kubectl apply` does
/// with thousands of requests, is slowed to the rate; one that sends much at once is refused. nginx calls this delay.
const PATIENCE: Duration = Duration::from_millis(50);

/// One user's bucket. It is full at first and fills again at the limit's rate.
#[derive(Debug)]
pub(super) struct Bucket(RateLimiter<NotKeyed, InMemoryState, Monotonic, NoOpMiddleware<Moment>>);

/// A bucket for each address.
#[derive(Debug)]
pub(super) struct Buckets<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, DashMapStateStore<K>, Monotonic, NoOpMiddleware<Moment>>,
}

/// Time that nobody sets back.
#[derive(Clone, Copy, Debug)]
struct Monotonic;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Bucket {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self(RateLimiter::new(quota(limit), InMemoryState::default(), Monotonic))
    }

    /// Takes one token, at the latest after a short wait for it; `false` when there is none.
    pub(super) async fn take_soon(&self) -> bool {
        let Err(mut empty) = self.0.check() else { return true };
        let until = Instant::now() + PATIENCE;
        loop {
            let now = Instant::now();
            let wait = empty.wait_time_from(Moment(now));
            if now + wait > until {
                return false;
            }
            pause(wait).await;
            match self.0.check() {
                Ok(()) => return true,
                Err(still) => empty = still,
            }
        }
    }

    /// Whether it was full: then a new one is as good. It is empty after that.
    pub(super) fn was_full(&self, limit: RateLimit) -> bool {
        matches!(self.0.check_n(burst(limit)), Ok(Ok(())))
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limiter: RateLimiter::new(quota(limit), DashMapStateStore::default(), Monotonic) }
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

fn quota(limit: RateLimit) -> Quota {
    let refill = Duration::from_secs_f64(1.0 / limit.per_second);
    // `None` is for a period of zero, which `RateLimit` has none of.
    let quota = Quota::with_period(refill).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    quota.allow_burst(burst(limit))
}

fn burst(limit: RateLimit) -> NonZeroU32 {
    NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN)
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
        let bucket = Bucket::new(LIMIT);
        let began = Instant::now();
        for _ in 0..400 {
            assert!(bucket.take_soon().await);
        }
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
        let at_once = futures_util::future::join_all((0..100).map(|_| bucket.take_soon())).await;
        assert!(at_once.iter().filter(|taken| **taken).count() <= 3);
        assert!(!bucket.was_full(LIMIT));
        pause(Duration::from_secs(6)).await;
        assert!(bucket.was_full(LIMIT));
    }
}
