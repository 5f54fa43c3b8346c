//! How many ordinary requests each user has under way.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::session::UserKey;

/// A burst that is somewhat larger than a user's share is over in a moment: it waits so long instead of being refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// The places that are free, by user.
#[derive(Debug)]
pub(super) struct Shares {
    users: DashMap<UserKey, Arc<Semaphore>>,
    max_per_user: usize,
}

/// The place of one request among those of its user; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    _permit: OwnedSemaphorePermit,
}

impl Shares {
    pub(super) fn new(max_per_user: usize) -> Self {
        Self { users: DashMap::new(), max_per_user }
    }

    /// One more request; `None` when its user still has as many as one may have after a second.
    pub(super) async fn take(&self, user: &UserKey) -> Option<Share> {
        let places = self.of(user);
        let permit = match places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(PATIENCE, places.acquire_owned()).await.ok()?.ok()?,
        };
        Some(Share { _permit: permit })
    }

    /// Forgets users who have no request under way.
    pub(super) fn sweep(&self) {
        // Each request, also one that waits, has a handle to its user's places. Nobody takes another while this looks,
        // because that needs the map.
        self.users.retain(|_, places| Arc::strong_count(places) > 1);
    }

    fn of(&self, user: &UserKey) -> Arc<Semaphore> {
        let known = self.users.get(user).map(|places| places.clone());
        known.unwrap_or_else(|| {
            let places = || Arc::new(Semaphore::new(self.max_per_user));
            self.users.entry(user.clone()).or_insert_with(places).clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn user(oid: &str) -> UserKey {
        UserKey { tid: "t".into(), oid: oid.into() }
    }

    /// One user's bound is not another's; what has ended makes room, also after a sweep in between.
    #[tokio::test(start_paused = true)]
    async fn each_user_has_a_bound_of_their_own() {
        let shares = Shares::new(2);
        let (first, second) =
            (shares.take(&user("a")).await.unwrap(), shares.take(&user("a")).await.unwrap());
        let began = Instant::now();
        assert!(shares.take(&user("a")).await.is_none());
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(shares.take(&user("b")).await.is_some());
        drop(first);
        shares.sweep();
        let third = shares.take(&user("a")).await.unwrap();
        assert!(shares.take(&user("a")).await.is_none());
        drop((second, third));
        shares.sweep();
        assert!(shares.users.is_empty());
    }

    /// A burst goes through as its first requests end.
    #[tokio::test(start_paused = true)]
    async fn a_burst_waits_for_its_own_requests() {
        let shares = Shares::new(1);
        let alice = user("a");
        let first = shares.take(&alice).await;
        let ends = async {
            crate::clock::pause(PATIENCE / 2).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(shares.take(&alice), ends);
        assert!(second.is_some());
    }
}
