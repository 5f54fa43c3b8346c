//! What runs beside requests: following what other replicas changed, and looking again at what is in use.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::SealedStore;
use crate::session::backend::Backend;
use crate::session::near::User;

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

    /// A look that fails leaves the user distrusted: the next request looks again.
    async fn look_again(&self, user: Arc<User>) {
        let mut state = user.state.lock().await;
        if state.loaded {
            let _later = self.look(&user, &mut state).await;
        }
    }
}
