//! One browser, one session: what a sign-in supersedes, and what a sign-out ends, is resolved at that moment.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::SealedStore;
use super::change::{Changed, found};
use crate::secret::CredentialKey;
use crate::session::backend::Backend;
use crate::session::near::User;
use crate::session::records::Successor;
use crate::session::{Ending, NewSession, Opener, Session, StoreError, Wait};

/// How often a browser's sign-in is followed into another user's records: more users than that do not sign in at the same
/// moment in one browser.
const MAX_HOPS: usize = 8;

impl<B: Backend> SealedStore<B> {
    /// The user whose credential this is; `None`: there is no such credential.
    pub(super) async fn user_by(&self, key: &CredentialKey) -> Result<Option<Arc<User>>, StoreError> {
        match self.near.last_seen(key.digest()) {
            Some((_, user)) => Ok(Some(user)),
            None => Ok(self.backend.user_of(key.digest()).await?.map(|tag| self.near.user(tag))),
        }
    }

    /// The session that a browser's cookie opens, or opened until it was superseded.
    pub(super) async fn find_of_browser(&self, cookie: &CredentialKey) -> Result<Option<Opener>, StoreError> {
        let asked_at = Instant::now();
        let Some(user) = self.user_by(cookie).await? else { return Ok(None) };
        let mut state = self.state_of(&user).await?;
        self.look_since(asked_at, &user, &mut state).await?;
        Ok(state.records.of_browser(user.tag, cookie).unwrap_or_else(|broken| {
            tracing::error!(user = %user.tag, error = %broken, "a record in the store does not verify");
            None
        }))
    }

    /// Begins a session in the place of the one that its browser had.
    ///
    /// Of several that begin at once in one browser the last one stays: whichever comes first to the records of the session
    /// from before is written down there, and the next one finds it, also in another user's records. There it has begun
    /// already, because a session begins before it takes another one's place.
    pub(super) async fn begin_session(&self, new: &NewSession) -> Result<(), StoreError> {
        let session = &new.opener.session;
        let tag = session.user.tag();
        let elsewhere = self.change(tag, |records| {
            records.prune(session.created_at);
            let (begun, elsewhere) = records.begin(tag, new);
            Ok::<_, StoreError>(Changed::Session(elsewhere, found(&new.opener), begun))
        });
        let elsewhere = elsewhere.await?;
        let superseded = self.supersede_elsewhere(elsewhere, session).await;
        if superseded.is_err() {
            // Should another user's session not end, nobody is told that they are signed in, and no session stays that no
            // browser has.
            let end = |records: &mut crate::session::records::Records| {
                Ok::<_, StoreError>(Changed::when(records.end(&session.id, Ending::Natural)))
            };
            let _ended = self.change(tag, end).await;
        }
        superseded
    }

    async fn supersede_elsewhere(&self, first: Option<Successor>, by: &Session) -> Result<(), StoreError> {
        let (mut next, now) = (first, by.created_at);
        let by = Successor::of(by);
        for _ in 0..MAX_HOPS {
            let Some(at) = next else { break };
            next = self.supersede_at(at, &by, now).await?;
        }
        Ok(())
    }

    async fn supersede_at(
        &self,
        at: Successor,
        by: &Successor,
        now: Timestamp,
    ) -> Result<Option<Successor>, StoreError> {
        let user = at.user;
        self.change(user, |records| {
            records.prune(now);
            if !records.knows(&at.session) {
                return Ok(Changed::No(None));
            }
            Ok(Changed::Yes(records.supersede(user, at.clone(), by, now, |_, _| {})))
        })
        .await
    }

    /// Ends, naturally, the opener's session, or the one that superseded it. `false`: all had ended already.
    pub(super) async fn end_of_browser(&self, opener: &Opener) -> Result<bool, StoreError> {
        let mut at = Successor::of(&opener.session);
        for _ in 0..MAX_HOPS {
            let user = at.user;
            let ended = self.change(user, |records| {
                Ok::<_, StoreError>(match records.end_last(user, at.clone()) {
                    Ok(true) => Changed::Yes(Ok(true)),
                    ended => Changed::No(ended),
                })
            });
            match ended.await? {
                Ok(ended) => return Ok(ended),
                Err(elsewhere) => at = elsewhere,
            }
        }
        Ok(false)
    }

    /// Notes what a session waits for.
    pub(super) async fn set_waits(&self, session: &Session, waits: Option<Wait>) -> Result<(), StoreError> {
        let tag = session.user.tag();
        self.change(tag, |records| Ok(Changed::when(records.set_waits(&session.id, waits)))).await.map(drop)
    }
}
