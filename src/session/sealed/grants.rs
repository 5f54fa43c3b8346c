//! What Entra gave a session: opened, renewed, and whose turn it is to renew.

use std::time::Duration;

use bytes::Bytes;

use super::SealedStore;
use crate::secret::random_base62;
use crate::session::backend::{Backend, Lease, StoredGrant};
use crate::session::records::{context_of, open_grant, seal_grant};
use crate::session::seal::{Broken, DataKey};
use crate::session::{Ending, Grant, Holder, Opener, SessionStore, StoreError, Turn, Wait};

/// A replica that dies while it renews a session's token delays the others by at most this long.
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// How often the lease is asked for again while Entra is being asked, and the longest wait for news of another's.
const LEASE_STEP: Duration = Duration::from_secs(1);
const HOLDER_CHARS: usize = 16;

impl<B: Backend> SealedStore<B> {
    /// The grant of the opener's session; `None` when the session has ended.
    pub(super) async fn open_grant(&self, opener: &Opener) -> Result<Option<Grant>, StoreError> {
        let (session, tag) = (&opener.session, opener.session.user.tag());
        let Some(key) = self.data_key(opener).await? else { return Ok(None) };
        // One that was not put back yet is newer than what the backend has.
        let unsent = self.unsent.get(&session.id).map(|unsent| unsent.1.sealed.clone());
        let sealed = match unsent {
            Some(sealed) => Some(sealed),
            None => match self.backend.grant(tag, &session.id).await {
                Ok(sealed) => sealed,
                Err(error) if self.may_be_stale() => {
                    Some(self.grants.get(&session.id).map(|kept| kept.clone()).ok_or(error)?)
                }
                Err(error) => return Err(error),
            },
        };
        let Some(sealed) = sealed else {
            // The session stands, but what it needs to go on is lost: an eviction, for instance. No half-session stays.
            if self.end_session(session, Ending::Natural).await? {
                tracing::error!(session = %session.id, "the store had lost what a session needs; the session ends");
            }
            return Ok(None);
        };
        self.grants.insert(session.id.clone(), sealed.clone());
        open_grant(&key, tag, session, &sealed).map(Some).map_err(|broken| refuse(opener, broken))
    }

    /// Puts a newer grant back. `false` when the session has ended.
    pub(super) async fn put_grant(&self, opener: &Opener, grant: &Grant) -> Result<bool, StoreError> {
        let (session, tag) = (&opener.session, opener.session.user.tag());
        let Some((key, waits)) = self.open(opener).await? else { return Ok(false) };
        let stored = StoredGrant {
            session: session.id.clone(),
            granted_at: grant.granted_at,
            sealed: Bytes::from(seal_grant(&key, tag, session, grant)),
            expires_at: session.expires_at,
        };
        match self.backend.renew(tag, &stored).await {
            Ok(is_live) => {
                self.unsent.remove(&session.id);
                // Where this fails, the session is taken to wait until its next renewal.
                if waits.is_some()
                    && let Err(error) = self.set_waits(session, None).await
                {
                    tracing::warn!(session = %session.id, %error, "could not note that a session waits no more");
                }
                Ok(is_live)
            }
            Err(error) if self.may_be_stale() => {
                tracing::warn!(session = %session.id, %error, "a renewed token is kept here until the store answers");
                self.unsent.insert(session.id.clone(), (tag, stored));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the backend what it could not be told.
    pub(super) async fn send_unsent(&self) {
        let unsent: Vec<_> = self.unsent.iter().map(|unsent| unsent.value().clone()).collect();
        for (user, grant) in unsent {
            if self.backend.renew(user, &grant).await.is_err() {
                return;
            }
            self.unsent.remove_if(&grant.session, |_, (_, kept)| kept.granted_at == grant.granted_at);
        }
    }

    pub(super) async fn take_turn(&self, opener: &Opener, insists: bool) -> Result<Turn, StoreError> {
        let (session, tag) = (&opener.session, opener.session.user.tag());
        let holder = random_base62(HOLDER_CHARS);
        let renewal = self.near.renewal_of(&session.id);
        let mut news = std::pin::pin!(renewal.notified());
        // From here on, so that no news is missed between the answer and the wait for it.
        news.as_mut().enable();
        match self.backend.lease(tag, &session.id, &holder, LEASE, insists).await {
            Ok(Lease::Mine) => Ok(Turn::Ours(Holder(Some(holder)))),
            Ok(Lease::Theirs(left)) => {
                let wait = left.clamp(Duration::from_millis(10), LEASE_STEP);
                let _news_or_not = tokio::time::timeout(wait, news).await;
                Ok(Turn::Theirs)
            }
            Ok(Lease::Failed(sealed, left)) => {
                let Some(key) = self.data_key(opener).await? else { return Ok(Turn::Theirs) };
                let plain = key.open(&context_of("failure", tag, session), &sealed);
                plain.map(|plain| Turn::Failed(plain.to_vec(), left)).map_err(|broken| refuse(opener, broken))
            }
            // Rather two calls to Entra than none.
            Err(_) if self.may_be_stale() => Ok(Turn::Ours(Holder(None))),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn keep_turn(&self, opener: &Opener, holder: &Holder) {
        let Holder(Some(name)) = holder else { return std::future::pending().await };
        let (session, tag) = (&opener.session.id, opener.session.user.tag());
        let mut step = tokio::time::interval(LEASE_STEP);
        step.tick().await;
        loop {
            step.tick().await;
            // One that was lost meanwhile is not fought for: the newer of two grants stays.
            let _lease = self.backend.lease(tag, session, name, LEASE, false).await;
        }
    }

    pub(super) async fn end_turn(
        &self,
        opener: &Opener,
        holder: Holder,
        failure: Option<(Vec<u8>, Duration)>,
    ) {
        let Holder(Some(name)) = holder else { return };
        let (session, tag) = (&opener.session, opener.session.user.tag());
        let mut left = None;
        if let Some((plain, lasts)) = failure
            && let Ok(Some(key)) = self.data_key(opener).await
        {
            left = Some((Bytes::from(key.seal(&context_of("failure", tag, session), &plain)), lasts));
        }
        // A lease that is not given back ends by itself.
        let _given_back = self.backend.release(tag, &session.id, &name, left).await;
    }

    /// The key of the opener's session; `None` when the session has ended.
    async fn data_key(&self, opener: &Opener) -> Result<Option<DataKey>, StoreError> {
        Ok(self.open(opener).await?.map(|(key, _)| key))
    }

    /// The key of the opener's session, and what it waits for.
    async fn open(&self, opener: &Opener) -> Result<Option<(DataKey, Option<Wait>)>, StoreError> {
        let user = self.near.user(opener.session.user.tag());
        let mut state = user.state.lock().await;
        if !self.near.is_fresh(&user) || !state.loaded {
            match self.look(&user, &mut state).await {
                Err(error) if !state.loaded || !self.may_be_stale() => return Err(error),
                _ => {}
            }
        }
        let waits = state.records.waits(&opener.session.id);
        let key = state.records.data_key(user.tag, opener).map_err(|broken| refuse(opener, broken))?;
        Ok(key.map(|key| (key, waits)))
    }
}

fn refuse(opener: &Opener, broken: Broken) -> StoreError {
    tracing::error!(session = %opener.session.id, error = %broken, "a record in the store does not verify");
    StoreError
}
