//! The store of a single replica: everything in this process's memory, gone with it.
//!
//! Looking up a credential reads one map shard and takes no other lock. All changes go through one mutex that is held
//! for a few map operations and never across an await.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use jiff::{SignedDuration, Timestamp};

use super::{
    AddTokenError, Credential, CredentialId, CredentialKind, Ending, Found, Grant, MAX_SESSIONS_PER_USER,
    MAX_TOKENS_PER_USER, Session, SessionId, StoreError, UserKey,
};
use crate::secret::Digest;

/// Whoever presents an expired credential within this time is told that it has expired, not that it is unknown.
const EXPIRED_IS_KNOWN_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Sessions and credentials in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// What requests read.
    found: DashMap<Digest, Found>,
    /// What changes go through.
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    sessions: HashMap<SessionId, Held>,
    users: HashMap<UserKey, User>,
    /// Sessions by Entra's session id.
    sids: HashMap<Digest, Vec<SessionId>>,
}

#[derive(Debug)]
struct Held {
    session: Arc<Session>,
    grant: Grant,
    credentials: HashSet<CredentialId>,
}

#[derive(Debug, Default)]
struct User {
    sessions: Vec<SessionId>,
    credentials: HashMap<CredentialId, Digest>,
}

impl MemoryStore {
    /// Finds a presented credential. What has expired is found too: the caller says so to its user.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn find(&self, digest: &Digest) -> Result<Option<Found>, StoreError> {
        Ok(self.found.get(digest).map(|found| found.clone()))
    }

    /// Begins a session with its first credential, a browser's cookie.
    ///
    /// `supersedes` is the session that the same browser had before: for the same user its live tokens move along, for
    /// another user it ends naturally. Returns the credentials that lost their session.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn begin(
        &self,
        session: Arc<Session>,
        grant: Grant,
        cookie: Arc<Credential>,
        supersedes: Option<&SessionId>,
    ) -> Result<Vec<CredentialId>, StoreError> {
        let mut index = self.lock();
        let mut ended = Vec::new();
        let held = Held { session: session.clone(), grant, credentials: HashSet::new() };
        index.sessions.insert(session.id.clone(), held);
        if let Some(sid) = session.sid {
            index.sids.entry(sid).or_default().push(session.id.clone());
        }
        let user = index.users.entry(session.user.clone()).or_default();
        user.sessions.push(session.id.clone());
        let oldest = (user.sessions.len() > MAX_SESSIONS_PER_USER).then(|| user.sessions[0].clone());
        self.link(&mut index, &cookie, &session);
        if let Some(old) = supersedes {
            let moves = index.sessions.get(old).is_some_and(|held| held.session.user == session.user);
            if moves {
                self.move_tokens(&mut index, old, &session);
            }
            ended.extend(self.end(&mut index, old, Ending::Natural));
        }
        if let Some(oldest) = oldest {
            ended.extend(self.end(&mut index, &oldest, Ending::Natural));
        }
        Ok(ended)
    }

    /// Adds a proxy token to a session.
    ///
    /// # Errors
    /// When the session has ended or the user has too many tokens.
    pub async fn add_token(&self, session: &SessionId, token: Arc<Credential>) -> Result<(), AddTokenError> {
        let mut index = self.lock();
        let session =
            index.sessions.get(session).map(|held| held.session.clone()).ok_or(AddTokenError::SessionGone)?;
        let (expired, live): (Vec<Found>, Vec<Found>) = self
            .tokens_of(&index, &token.user)
            .into_iter()
            .partition(|held| held.credential.is_over(token.created_at));
        if live.len() >= MAX_TOKENS_PER_USER {
            return Err(AddTokenError::TooMany);
        }
        // Expired ones are kept for a day, but only as long as there is room.
        if expired.len() + live.len() >= MAX_TOKENS_PER_USER
            && let Some(oldest) = expired.iter().min_by_key(|held| held.credential.expires_at)
        {
            self.unlink(&mut index, &token.user, &oldest.credential.id);
        }
        self.link(&mut index, &token, &session);
        Ok(())
    }

    /// The user's proxy tokens, oldest first.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn tokens(&self, user: &UserKey) -> Result<Vec<Found>, StoreError> {
        let mut tokens = self.tokens_of(&self.lock(), user);
        tokens.sort_by_key(|found| found.credential.created_at);
        Ok(tokens)
    }

    /// Arms the user's dormant tokens among `ids` (`None`: all) with a session of the same user. Those whose session
    /// `waits` for its user are dormant too.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn arm(
        &self,
        session: &SessionId,
        ids: Option<&[CredentialId]>,
        waits: impl Fn(&Session) -> bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut index = self.lock();
        let Some(session) = index.sessions.get(session).map(|held| held.session.clone()) else {
            return Ok(());
        };
        for found in self.tokens_of(&index, &session.user) {
            let wanted = ids.is_none_or(|ids| ids.contains(&found.credential.id));
            let dormant = found.session.as_ref().is_none_or(|held| held.is_over(now) || waits(held));
            if wanted && dormant && !found.credential.is_over(now) {
                self.bind(&mut index, &found, &session);
            }
        }
        Ok(())
    }

    /// Revokes one token of the user, for ever. Returns its id, where there was one.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn revoke(
        &self,
        user: &UserKey,
        id: &CredentialId,
    ) -> Result<Option<CredentialId>, StoreError> {
        let mut index = self.lock();
        let is_token = self.tokens_of(&index, user).iter().any(|found| found.credential.id == *id);
        if is_token {
            self.unlink(&mut index, user, id);
        }
        Ok(is_token.then(|| id.clone()))
    }

    /// Ends one session. Returns the credentials that lost it.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn end_session(
        &self,
        session: &SessionId,
        ending: Ending,
    ) -> Result<Vec<CredentialId>, StoreError> {
        Ok(self.end(&mut self.lock(), session, ending))
    }

    /// Ends all sessions and tokens of a user, dormant ones too. Returns all their credentials.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn end_user(&self, user: &UserKey) -> Result<Vec<CredentialId>, StoreError> {
        let mut index = self.lock();
        let Some(gone) = index.users.remove(user) else { return Ok(Vec::new()) };
        for session in &gone.sessions {
            index.remove(session);
        }
        for digest in gone.credentials.values() {
            self.found.remove(digest);
        }
        Ok(gone.credentials.into_keys().collect())
    }

    /// Ends, naturally, the sessions that Entra knows by this session id. Returns the credentials that lost theirs.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn end_by_sid(&self, sid: &Digest) -> Result<Vec<CredentialId>, StoreError> {
        let mut index = self.lock();
        let sessions = index.sids.get(sid).cloned().unwrap_or_default();
        Ok(sessions.iter().flat_map(|id| self.end(&mut index, id, Ending::Natural)).collect())
    }

    /// What Entra gave the session; `None` when the session has ended.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn grant(&self, session: &SessionId) -> Result<Option<Grant>, StoreError> {
        Ok(self.lock().sessions.get(session).map(|held| held.grant.clone()))
    }

    /// Replaces the session's grant by a newer one. `false` when the session has ended: nothing is brought back.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn renew(&self, session: &SessionId, grant: Grant) -> Result<bool, StoreError> {
        let mut index = self.lock();
        let Some(held) = index.sessions.get_mut(session) else { return Ok(false) };
        if grant.granted_at >= held.grant.granted_at {
            held.grant = grant;
        }
        Ok(true)
    }

    /// Ends what has expired, and forgets it a day later. Returns the credentials that are over.
    ///
    /// # Errors
    /// Never for this store.
    pub async fn sweep(&self, now: Timestamp) -> Result<Vec<CredentialId>, StoreError> {
        let mut index = self.lock();
        let over: Vec<SessionId> = index
            .sessions
            .values()
            .filter(|held| held.session.is_over(now))
            .map(|held| held.session.id.clone())
            .collect();
        let mut ended: Vec<CredentialId> =
            over.iter().flat_map(|id| self.end(&mut index, id, Ending::Natural)).collect();
        let long_ago = now.saturating_sub(EXPIRED_IS_KNOWN_FOR).unwrap_or(Timestamp::MIN);
        let expired = self.found.iter().filter(|found| found.credential.is_over(now));
        let expired: Vec<Arc<Credential>> = expired.map(|found| found.credential.clone()).collect();
        for credential in expired {
            ended.push(credential.id.clone());
            if credential.is_over(long_ago) {
                self.unlink(&mut index, &credential.user, &credential.id);
            }
        }
        Ok(ended)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // No code that holds it can panic half-way through a change.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the credential open the session.
    fn link(&self, index: &mut Index, credential: &Arc<Credential>, session: &Arc<Session>) {
        if let Some(held) = index.sessions.get_mut(&session.id) {
            held.credentials.insert(credential.id.clone());
        }
        let user = index.users.entry(credential.user.clone()).or_default();
        user.credentials.insert(credential.id.clone(), credential.digest);
        let found = Found { credential: credential.clone(), session: Some(session.clone()) };
        self.found.insert(credential.digest, found);
    }

    /// Removes the credential everywhere.
    fn unlink(&self, index: &mut Index, user: &UserKey, id: &CredentialId) {
        let Some(entry) = index.users.get_mut(user) else { return };
        if let Some(digest) = entry.credentials.remove(id)
            && let Some((_, found)) = self.found.remove(&digest)
            && let Some(session) = found.session
            && let Some(held) = index.sessions.get_mut(&session.id)
        {
            held.credentials.remove(id);
        }
        index.forget_empty(user);
    }

    /// Makes a token open another session than before, or one again.
    fn bind(&self, index: &mut Index, found: &Found, to: &Arc<Session>) {
        let before = found.session.as_ref().and_then(|session| index.sessions.get_mut(&session.id));
        if let Some(held) = before {
            held.credentials.remove(&found.credential.id);
        }
        self.link(index, &found.credential, to);
    }

    fn move_tokens(&self, index: &mut Index, from: &SessionId, to: &Arc<Session>) {
        for found in self.tokens_of(index, &to.user) {
            if found.session.as_ref().is_some_and(|session| session.id == *from) {
                self.bind(index, &found, to);
            }
        }
    }

    fn end(&self, index: &mut Index, session: &SessionId, ending: Ending) -> Vec<CredentialId> {
        let Some(held) = index.remove(session) else { return Vec::new() };
        let user_key = &held.session.user;
        let ended: Vec<CredentialId> = held.credentials.into_iter().collect();
        let Some(user) = index.users.get_mut(user_key) else { return ended };
        user.sessions.retain(|id| id != session);
        for id in &ended {
            let Some(digest) = user.credentials.get(id).copied() else { continue };
            let sleeps = ending == Ending::Natural
                && self
                    .found
                    .get(&digest)
                    .is_some_and(|found| found.credential.kind == CredentialKind::Token);
            if sleeps {
                self.found.alter(&digest, |_, found| Found { session: None, ..found });
            } else {
                self.found.remove(&digest);
                user.credentials.remove(id);
            }
        }
        index.forget_empty(user_key);
        ended
    }

    fn tokens_of(&self, index: &Index, user: &UserKey) -> Vec<Found> {
        let digests = index.users.get(user).into_iter().flat_map(|user| user.credentials.values());
        let found = digests.filter_map(|digest| self.found.get(digest).map(|found| found.clone()));
        found.filter(|found| found.credential.kind == CredentialKind::Token).collect()
    }
}

impl Index {
    fn remove(&mut self, session: &SessionId) -> Option<Held> {
        let held = self.sessions.remove(session)?;
        if let Some(sid) = &held.session.sid
            && let Some(same) = self.sids.get_mut(sid)
        {
            same.retain(|id| id != session);
            if same.is_empty() {
                self.sids.remove(sid);
            }
        }
        Some(held)
    }

    fn forget_empty(&mut self, user: &UserKey) {
        if self.users.get(user).is_some_and(|user| user.sessions.is_empty() && user.credentials.is_empty()) {
            self.users.remove(user);
        }
    }
}

#[cfg(test)]
mod tests;
