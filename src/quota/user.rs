//! What one user has of the limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::rate::Bucket;
use crate::config::RateLimit;

/// A burst that is somewhat larger than a user's share is over in a moment: it waits so long instead of being refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// What every user may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `None`: as many as they like.
    pub(super) rate: Option<RateLimit>,
    /// Ordinary requests under way.
    pub(super) requests: usize,
    /// Requests to dashboards under way.
    pub(super) dashboards: usize,
}

/// What is left of it to one user.
#[derive(Debug)]
pub(super) struct User {
    bucket: Option<Bucket>,
    requests: Semaphore,
    dashboards: Semaphore,
}

/// The two kinds of request that are counted while they are under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Request,
    Dashboard,
}

/// The place of one request among those of its user; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    user: Arc<User>,
    kind: Kind,
}

impl User {
    /// One who has used nothing yet.
    pub(super) fn new(limits: Limits) -> Self {
        let places = |count: usize| Semaphore::new(count.min(Semaphore::MAX_PERMITS));
        Self {
            bucket: limits.rate.map(Bucket::new),
            requests: places(limits.requests),
            dashboards: places(limits.dashboards),
        }
    }

    /// One more request in this second; `false` when the rate is used up.
    pub(super) async fn take_turn(&self) -> bool {
        match &self.bucket {
            Some(bucket) => bucket.take_soon().await,
            None => true,
        }
    }

    /// One more request under way; `None` when there are still as many as one may have after a second.
    pub(super) async fn take_share(self: Arc<Self>, kind: Kind) -> Option<Share> {
        let places = self.places(kind);
        let permit = match places.try_acquire() {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(PATIENCE, places.acquire()).await.ok()?.ok()?,
        };
        permit.forget();
        Some(Share { user: self, kind })
    }

    /// Whether nothing is used of the rate, so that a new user would be as good. Only for one who is forgotten then.
    pub(super) fn is_fresh(&self, limits: Limits) -> bool {
        let bucket = self.bucket.as_ref().zip(limits.rate);
        bucket.is_none_or(|(bucket, limit)| bucket.was_full(limit))
    }

    fn places(&self, kind: Kind) -> &Semaphore {
        match kind {
            Kind::Request => &self.requests,
            Kind::Dashboard => &self.dashboards,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.user.places(self.kind).add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn user(requests: usize) -> Arc<User> {
        Arc::new(User::new(Limits { rate: None, requests, dashboards: 1 }))
    }

    /// What has ended makes room; requests to dashboards are counted apart.
    #[tokio::test(start_paused = true)]
    async fn a_user_has_so_many_requests_under_way_and_no_more() {
        let alice = user(2);
        let take = |kind| alice.clone().take_share(kind);
        let (first, _second) = (take(Kind::Request).await.unwrap(), take(Kind::Request).await.unwrap());
        let began = Instant::now();
        assert!(take(Kind::Request).await.is_none());
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(take(Kind::Dashboard).await.is_some());
        drop(first);
        let _third = take(Kind::Request).await.unwrap();
        assert!(take(Kind::Request).await.is_none());
    }

    /// A burst goes through as its first requests end.
    #[tokio::test(start_paused = true)]
    async fn a_burst_waits_for_its_own_requests() {
        let alice = user(1);
        let first = alice.clone().take_share(Kind::Request).await;
        let ends = async {
            crate::clock::pause(PATIENCE / 2).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(alice.clone().take_share(Kind::Request), ends);
        assert!(second.is_some());
    }

    /// Who gives up waiting takes no place with them.
    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_costs_no_place() {
        let alice = user(1);
        let first = alice.clone().take_share(Kind::Request).await.unwrap();
        let waits = tokio::time::timeout(PATIENCE / 2, alice.clone().take_share(Kind::Request));
        assert!(waits.await.is_err());
        drop(first);
        assert!(alice.clone().take_share(Kind::Request).await.is_some());
    }
}
