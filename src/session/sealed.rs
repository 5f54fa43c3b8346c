//! The store that everybody uses: sealed records in a backend, and beside it what this replica has opened.
//!
//! A request of a known credential reads one map and asks nobody ([`SessionStore::known`]). All else goes through the
//! user's place in [`Near`], where one look or one change of a user is under way at a time:
//!
//! - a *look* reads the user's document and compares it with what was known: what has ended is published from that
//!   difference, wherever it was ended;
//! - a *change* is applied to a copy of the document and put back if nobody was faster; otherwise it is applied anew.
//!
//! While the backend does not answer, what is known goes on being served for `staleness` after its last sign of life;
//! nothing that must reach the store is reported as done.

mod change;
mod grants;
mod handovers;
mod run;
mod succession;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use jiff::Timestamp;
use tokio::time::Instant;

use self::change::{Changed, kept_until, unverified};
use super::backend::{Backend, Stored, StoredGrant, UsesOf, Version};
use super::near::{Near, State, User};
use super::records::Records;
use super::{
    AddTokenError, Arming, Credential, CredentialId, CredentialKind, Ending, Endings, Found, Grant, Holder,
    Listed, MountEntry, NewSession, Opener, Session, SessionId, SessionStore, StoreError, StoreState, Turn,
    Use, UserKey, UserTag, Wait,
};
use crate::secret::{CredentialKey, Digest};

/// Who waited for a look that failed less than this ago does not try again: a store that does not answer is not asked by
/// all at once.
const FAILED_FOR: Duration = Duration::from_millis(500);

/// How long a request whose credential could be served from memory waits for the store. Redis answers in about a
/// millisecond.
const PATIENCE: Duration = Duration::from_millis(250);
/// Looks in a row at a user who changes all the time: then the next request looks again.
const MAX_LOOKS: usize = 3;

/// Sessions in a backend.
#[derive(Debug)]
pub(crate) struct SealedStore<B> {
    backend: B,
    near: Near,
    endings: Endings,
    staleness: Duration,
    /// The last grant of each session that was asked for here, still sealed: while the backend is away, renewal goes on.
    grants: DashMap<SessionId, Bytes>,
    /// Grants that could not be put back yet.
    unsent: DashMap<SessionId, (UserTag, StoredGrant)>,
}

impl<B: Backend> SealedStore<B> {
    /// Records lie in `backend`; what ends is published to `endings`. `staleness`: how long what is known is served
    /// without a sign of life from the backend.
    #[must_use]
    pub(crate) fn new(backend: B, endings: Endings, staleness: Duration) -> Self {
        let (grants, unsent) = (DashMap::new(), DashMap::new());
        Self { backend, near: Near::new(B::IS_SHARED), endings, staleness, grants, unsent }
    }

    /// Whether what is known may still be served although the backend does not answer.
    fn may_be_stale(&self) -> bool {
        self.near.silent_for() < self.staleness
    }

    async fn look_up(&self, key: &CredentialKey) -> Result<Option<Found>, StoreError> {
        let asked_at = Instant::now();
        let Some(user) = self.user_by(key).await? else { return Ok(None) };
        let mut state = self.state_of(&user).await?;
        self.look_since(asked_at, &user, &mut state).await?;
        let opened = state.records.open(user.tag, key).unwrap_or_else(|broken| {
            tracing::error!(user = %user.tag, error = %broken, "a record in the store does not verify");
            None
        });
        let Some(opened) = opened else { return Ok(None) };
        let last_use = state.uses.get(&opened.credential.id).copied();
        let found = Found { credential: opened.credential, session: opened.session, last_use };
        self.near.keep(&user, &mut state, &found);
        Ok(Some(found))
    }

    /// What is known of the user, for one caller at a time.
    ///
    /// # Errors
    /// When a look at the backend failed while the caller waited for its turn.
    async fn state_of<'a>(&self, user: &'a User) -> Result<tokio::sync::MutexGuard<'a, State>, StoreError> {
        let state = user.state.lock().await;
        match state.failed_at {
            Some((at, count)) if at.elapsed() < FAILED_FOR && count == self.near.count() => Err(StoreError),
            _ => Ok(state),
        }
    }

    /// Looks the user up, unless a look that began after `asked_at` has been made meanwhile: whoever asks sees everything
    /// that had happened by then, and many who ask at once share one look.
    async fn look_since(
        &self,
        asked_at: Instant,
        user: &Arc<User>,
        state: &mut State,
    ) -> Result<(), StoreError> {
        if state.has_looked_since(asked_at) && self.near.is_fresh(user) {
            Ok(())
        } else {
            self.look(user, state).await
        }
    }

    /// Looks the user up in the backend. A look that fails, or is given up half-way, leaves the user in doubt.
    async fn look(&self, user: &Arc<User>, state: &mut State) -> Result<(), StoreError> {
        for _ in 0..MAX_LOOKS {
            let (began, look) = (Instant::now(), self.near.before_look(user));
            let known = if state.loaded { state.version.clone() } else { Version::default() };
            let stored = match self.backend.load(user.tag, &known).await {
                Ok(stored) => stored,
                Err(error) => {
                    state.failed_at = Some((Instant::now(), self.near.count()));
                    return Err(error);
                }
            };
            super::backend::Events::alive(&self.near);
            state.failed_at = None;
            state.looked_at = Some(began);
            self.install(user, state, stored);
            // A change that was heard of during the look may have come too late for it.
            if self.near.looked_up(user, look, &state.version) {
                break;
            }
        }
        Ok(())
    }

    /// Takes a document for the truth, and publishes what has ended by it.
    fn install(&self, user: &User, state: &mut State, stored: Stored) {
        if !state.loaded || stored.version != state.version {
            let records = stored.document.as_deref().map_or_else(|| Ok(Records::default()), Records::parse);
            let records = records.unwrap_or_else(|broken| {
                tracing::error!(user = %user.tag, error = %broken, "a user's document in the store is broken");
                Records::default()
            });
            state.version = stored.version;
            self.replace(state, Arc::new(records));
        }
        state.uses = stored.uses.into_iter().collect();
        self.show_uses(state);
    }

    /// Lets requests see the last uses that are known.
    fn show_uses(&self, state: &State) {
        for digest in &state.digests {
            self.near.update(digest, |found| {
                let last_use = state.uses.get(&found.credential.id).copied();
                Some(Found { last_use, ..found.clone() })
            });
        }
    }

    /// Replaces what is known of the user's records, and publishes what has ended by it.
    fn replace(&self, state: &mut State, records: Arc<Records>) {
        let ended = records.ended_since(&state.records);
        state.records = records;
        state.loaded = true;
        let records = &state.records;
        state.digests.retain(|digest| {
            let mut stays = false;
            self.near.update(digest, |found| {
                let session = found.session.as_ref().map(|session| &session.id);
                let (now, ends_at) = records.session_of(digest)?;
                let entry = match now {
                    // Its end was brought forward: its record is to be opened again.
                    _ if ends_at != found.credential.expires_at => return None,
                    now if now == session => found.clone(),
                    None => Found { session: None, ..found.clone() },
                    // Another session: it takes the credential's key to open it.
                    Some(_) => return None,
                };
                stays = true;
                Some(entry)
            });
            stays
        });
        for session in &ended.sessions {
            self.grants.remove(session);
            self.unsent.remove(session);
        }
        self.endings.publish(&ended);
    }
}

#[async_trait]
impl<B: Backend> SessionStore for SealedStore<B> {
    fn known(&self, digest: &Digest) -> Option<Found> {
        self.near.known(digest)
    }

    async fn find(&self, key: &CredentialKey) -> Result<Option<Found>, StoreError> {
        let Some((_, user)) = self.near.last_seen(key.digest()) else { return self.look_up(key).await };
        let is_doubtful = !self.near.is_fresh(&user);
        let found = if is_doubtful && self.near.may_be_served(&user, self.staleness) {
            // The store may be away: what could be served all the same waits for it only a moment, and not behind others.
            let is_under_way = user.state.try_lock().is_err();
            let patience = if is_under_way { Duration::ZERO } else { PATIENCE };
            tokio::time::timeout(patience, self.look_up(key)).await.ok()
        } else {
            Some(self.look_up(key).await)
        };
        if let Some(Ok(found)) = found {
            return Ok(found);
        }
        match (self.near.last_seen(key.digest()), found) {
            (Some((last, user)), _) if self.near.may_be_served(&user, self.staleness) => Ok(Some(last)),
            (_, Some(found)) => found,
            // Who would not wait has nothing to serve any more: a look that was under way has taken it away.
            (_, None) => self.look_up(key).await,
        }
    }

    async fn begin(&self, new: NewSession) -> Result<(), StoreError> {
        self.begin_session(&new).await
    }

    async fn of_browser(&self, cookie: &CredentialKey) -> Result<Option<Opener>, StoreError> {
        self.find_of_browser(cookie).await
    }

    async fn sign_out(&self, opener: &Opener) -> Result<bool, StoreError> {
        self.end_of_browser(opener).await
    }

    async fn note_wait(&self, session: &Session, wait: Wait) -> Result<(), StoreError> {
        self.set_waits(session, Some(wait)).await
    }

    async fn add_token(
        &self,
        opener: &Opener,
        token: Arc<Credential>,
        key: &CredentialKey,
    ) -> Result<(), AddTokenError> {
        self.put_token(opener, token, key).await
    }

    async fn enter_mount(&self, opener: &Opener, entry: &MountEntry) -> Result<(), AddTokenError> {
        self.add_mount(opener, entry).await
    }

    async fn listed(&self, user: &UserKey, kind: CredentialKind) -> Result<Vec<Listed>, StoreError> {
        let (asked_at, known) = (Instant::now(), self.near.user(user.tag()));
        let mut state = self.state_of(&known).await?;
        self.look_since(asked_at, &known, &mut state).await?;
        let mut listed = state.records.list(user, kind);
        for one in &mut listed {
            one.last_use = state.uses.get(&one.credential.id).copied();
        }
        Ok(listed)
    }

    async fn arm(
        &self,
        opener: &Opener,
        tokens: &[Arming],
        now: Timestamp,
    ) -> Result<Vec<CredentialId>, StoreError> {
        self.arm_tokens(opener, tokens, now).await
    }

    async fn revoke(&self, user: &UserKey, token: &CredentialId) -> Result<bool, StoreError> {
        self.change(user.tag(), |records| Ok(Changed::when(records.revoke(token)))).await
    }

    async fn shorten(&self, opener: &Opener, ends_at: Timestamp) -> Result<(), StoreError> {
        let tag = opener.session.user.tag();
        let change = self.change(tag, |records| {
            let shortened = records.shorten(tag, opener, ends_at);
            shortened.map(Changed::when).map_err(|broken| unverified(tag, &broken))
        });
        change.await.map(|_shortened| ())
    }

    async fn end_session(&self, session: &Session, ending: Ending) -> Result<bool, StoreError> {
        self.change(session.user.tag(), |records| Ok(Changed::when(records.end(&session.id, ending)))).await
    }

    async fn end_browser(
        &self,
        user: &UserKey,
        cookie: &CredentialId,
    ) -> Result<Option<SessionId>, StoreError> {
        self.change(user.tag(), |records| {
            let ended = records.end_browser(cookie);
            Ok(if ended.is_some() { Changed::Yes(ended) } else { Changed::No(None) })
        })
        .await
    }

    async fn end_user(&self, user: &UserKey) -> Result<(), StoreError> {
        self.change(user.tag(), |records| {
            records.end_all();
            Ok(Changed::Yes(()))
        })
        .await
    }

    async fn end_by_sid(&self, sid: &Digest) -> Result<usize, StoreError> {
        let (mut ended, mut failed) = (0, None);
        for (user, session) in self.backend.by_sid(sid).await? {
            let has_ended =
                self.change(user, |records| Ok(Changed::when(records.end(&session, Ending::Natural)))).await;
            match has_ended {
                // The others all the same.
                Err(error) => failed = Some(error),
                Ok(has_ended) => {
                    ended += usize::from(has_ended);
                    self.backend.forget_sid(sid, user, &session).await;
                }
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    async fn grant(&self, opener: &Opener) -> Result<Option<Grant>, StoreError> {
        self.open_grant(opener).await
    }

    async fn renew(&self, opener: &Opener, grant: Grant) -> Result<bool, StoreError> {
        self.put_grant(opener, &grant).await
    }

    async fn turn(&self, opener: &Opener, insists: bool) -> Result<Turn, StoreError> {
        self.take_turn(opener, insists).await
    }

    async fn claim(&self, opener: &Opener, lasts: Duration) -> Result<Duration, StoreError> {
        self.backend.claim(opener.session.user.tag(), &opener.session.id, lasts).await
    }

    async fn hold(&self, opener: &Opener, holder: &Holder) {
        self.keep_turn(opener, holder).await;
    }

    async fn give_back(&self, opener: &Opener, holder: Holder, failure: Option<(Vec<u8>, Duration)>) {
        self.end_turn(opener, holder, failure).await;
    }

    async fn touch(&self, uses: &[Use]) -> Result<(), StoreError> {
        let mut by_user = HashMap::<UserTag, UsesOf>::new();
        for Use { credential, last } in uses {
            let (user, expires_at) = (credential.user.tag(), kept_until(credential.expires_at));
            let of = by_user.entry(user).or_insert_with(|| UsesOf { user, uses: Vec::new(), expires_at });
            of.uses.push((credential.id.clone(), *last));
            of.expires_at = of.expires_at.max(expires_at);
        }
        let by_user: Vec<UsesOf> = by_user.into_values().collect();
        self.backend.touch(&by_user).await?;
        for UsesOf { user, uses, .. } in by_user {
            let Some(user) = self.near.known_user(user) else { continue };
            let state = &mut *user.state.lock().await;
            for (credential, last) in uses {
                let known = state.uses.entry(credential).or_insert(last);
                *known = if known.at <= last.at { last } else { *known };
            }
            self.show_uses(state);
        }
        Ok(())
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        self.forget_old(now).await?;
        self.backend.sweep(now).await
    }

    fn count(&self) -> usize {
        let users = self.near.users();
        let known =
            users.iter().filter_map(|user| user.state.try_lock().ok().map(|state| state.records.sessions()));
        known.sum()
    }

    fn state(&self) -> StoreState {
        self.near.state()
    }

    fn is_lost(&self) -> bool {
        !self.may_be_stale()
    }
}
