//! What runs beside requests: following what other replicas changed, and looking again at what is in use.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;

use super::SealedStore;
use super::change::Changed;
use crate::session::backend::Backend;
use crate::session::near::User;
use crate::session::{SessionId, StoreError};

/// Looks at the backend at once: so that many users' changes, or a return of the backend, are no flood.
const LOOKS_AT_ONCE: usize = 32;
const TICK: Duration = Duration::from_secs(1);

impl<B: Backend> SealedStore<B> {
    /// Runs for ever: keeps the backend's connection, follows its changes, and puts back what could not be put back.
    pub(crate) async fn run(&self) {
        futures_util::future::join3(self.backend.run(&self.near), self.follow(), self.keep()).await;
    }

    /// Looks up each user of whom the backend says that they changed. One whose look takes long holds nobody else up.
    async fn follow(&self) {
        let mut looks = FuturesUnordered::new();
        loop {
            tokio::select! {
                changed = self.near.changed_users(), if looks.len() < LOOKS_AT_ONCE => {
                    looks.extend(changed.into_iter().map(|user| self.look_again(user)));
                }
                Some(()) = looks.next() => {}
            }
        }
    }

    async fn keep(&self) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            if !self.unsent.is_empty() {
                self.send_unsent().await;
            }
            let due = futures_util::stream::iter(self.near.due());
            due.for_each_concurrent(LOOKS_AT_ONCE, |user| self.look_again(user)).await;
        }
    }

    /// Forgets who is not used any more, and ends what has expired.
    pub(super) async fn forget_old(&self, now: Timestamp) -> Result<(), StoreError> {
        self.near.forget_unused();
        self.near.forget_renewals();
        // A grant may have been kept just after its session had ended.
        let mut stale: HashSet<SessionId> = self.grants.iter().map(|kept| kept.key().clone()).collect();
        for user in self.near.users() {
            let is_due = {
                let state = user.state.lock().await;
                for session in state.records.session_ids() {
                    stale.remove(session);
                }
                state.records.has_expired(now)
            };
            if is_due {
                self.change(user.tag, |records| {
                    records.prune(now);
                    Ok::<_, StoreError>(Changed::Yes(()))
                })
                .await?;
            }
        }
        for session in stale {
            self.grants.remove(&session);
        }
        Ok(())
    }

    /// A look that fails leaves the user distrusted: the next request looks again.
    async fn look_again(&self, user: Arc<User>) {
        let mut state = user.state.lock().await;
        if state.loaded {
            let _later = self.look(&user, &mut state).await;
        }
    }
}
