//! The store of a single replica: everything in this process's memory, gone with it.
//!
//! Looking up a credential reads one map shard and takes no other lock. All changes go through one mutex that is held
//! for a few map operations and never across an await. What a change ended is published after the mutex is released.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dashmap::DashMap;
use jiff::{SignedDuration, Timestamp};

use super::{
    AddTokenError, Arming, Credential, CredentialId, CredentialKind, Ended, Ending, Endings, Fate, Found,
    Grant, MAX_SESSIONS_PER_USER, MAX_TOKENS_PER_USER, NewSession, Opener, Session, SessionId, SessionStore,
    StoreError, Use, UserKey,
};
use crate::secret::{CredentialKey, Digest};

/// An expired credential that is presented within this time is told to have expired, not to be unknown.
const EXPIRED_IS_KNOWN_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Sessions and credentials in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    /// What requests read.
    found: DashMap<Digest, Found>,
    /// What changes go through.
    index: Mutex<Index>,
    endings: Endings,
}

#[derive(Debug, Default)]
struct Index {
    sessions: HashMap<SessionId, SessionRecord>,
    users: HashMap<UserKey, UserRecord>,
    /// Sessions by Entra's session id.
    sids: HashMap<Digest, Vec<SessionId>>,
}

#[derive(Debug)]
struct SessionRecord {
    session: Arc<Session>,
    grant: Grant,
    credentials: HashSet<CredentialId>,
}

#[derive(Debug, Default)]
struct UserRecord {
    sessions: Vec<SessionId>,
    credentials: HashMap<CredentialId, Digest>,
}

#[async_trait]
impl SessionStore for MemoryStore {
    fn known(&self, digest: &Digest) -> Option<Found> {
        self.found.get(digest).map(|found| found.clone())
    }

    async fn find(&self, key: &CredentialKey) -> Result<Option<Found>, StoreError> {
        Ok(self.known(key.digest()))
    }

    async fn begin(&self, new: NewSession) -> Result<(), StoreError> {
        let NewSession { opener, grant, supersedes } = new;
        let Opener { credential: cookie, session, .. } = opener;
        let mut ended = Ended::default();
        let mut index = self.lock();
        let record = SessionRecord { session: session.clone(), grant, credentials: HashSet::new() };
        index.sessions.insert(session.id.clone(), record);
        if let Some(sid) = session.sid {
            index.sids.entry(sid).or_default().push(session.id.clone());
        }
        let user = index.users.entry(session.user.clone()).or_default();
        user.sessions.push(session.id.clone());
        let oldest = (user.sessions.len() > MAX_SESSIONS_PER_USER).then(|| user.sessions[0].clone());
        self.link(&mut index, &cookie, &session);
        if let Some(old) = &supersedes {
            if index.sessions.get(old).is_some_and(|record| record.session.user == session.user) {
                self.move_tokens(&mut index, old, &session);
            }
            self.end(&mut index, old, Ending::Natural, &mut ended);
        }
        if let Some(oldest) = oldest {
            self.end(&mut index, &oldest, Ending::Natural, &mut ended);
        }
        drop(index);
        self.endings.publish(&ended);
        Ok(())
    }

    async fn add_token(
        &self,
        opener: &Opener,
        token: Arc<Credential>,
        _key: &CredentialKey,
    ) -> Result<(), AddTokenError> {
        let mut index = self.lock();
        let session = index.sessions.get(&opener.session.id).map(|record| record.session.clone());
        let session = session.ok_or(AddTokenError::SessionGone)?;
        let now = token.created_at;
        let (expired, live): (Vec<Found>, Vec<Found>) = self
            .tokens_of(&index, &token.user)
            .into_iter()
            .partition(|found| found.credential.is_over(found.last_use, now));
        if live.len() >= MAX_TOKENS_PER_USER {
            return Err(AddTokenError::TooMany);
        }
        // Expired ones are kept for a day, but only as long as there is room.
        if expired.len() + live.len() >= MAX_TOKENS_PER_USER
            && let Some(oldest) = expired.iter().min_by_key(|found| found.credential.expires_at)
        {
            self.unlink(&mut index, &token.user, &oldest.credential.id);
        }
        self.link(&mut index, &token, &session);
        Ok(())
    }

    async fn tokens(&self, user: &UserKey) -> Result<Vec<Found>, StoreError> {
        let mut tokens = self.tokens_of(&self.lock(), user);
        tokens.sort_by_key(|found| found.credential.created_at);
        Ok(tokens)
    }

    async fn arm(&self, opener: &Opener, tokens: &[Arming], now: Timestamp) -> Result<(), StoreError> {
        let wanted: HashMap<&CredentialId, &Arming> =
            tokens.iter().map(|arming| (&arming.token, arming)).collect();
        let mut index = self.lock();
        let Some(session) = index.sessions.get(&opener.session.id).map(|record| record.session.clone())
        else {
            return Ok(());
        };
        for found in self.tokens_of(&index, &session.user) {
            let has = found.session.as_ref().map(|session| &session.id);
            let is_wanted = wanted.get(&found.credential.id).is_some_and(|arming| arming.had.as_ref() == has);
            if is_wanted && !found.credential.is_over(found.last_use, now) {
                self.bind(&mut index, &found, &session);
            }
        }
        Ok(())
    }

    async fn revoke(&self, user: &UserKey, token: &CredentialId) -> Result<bool, StoreError> {
        let mut index = self.lock();
        let is_token = self.tokens_of(&index, user).iter().any(|found| found.credential.id == *token);
        if !is_token {
            return Ok(false);
        }
        self.unlink(&mut index, user, token);
        drop(index);
        self.endings.publish(&Ended { sessions: Vec::new(), credentials: vec![(token.clone(), Fate::Void)] });
        Ok(true)
    }

    async fn end_session(&self, session: &SessionId, ending: Ending) -> Result<bool, StoreError> {
        let mut ended = Ended::default();
        self.end(&mut self.lock(), session, ending, &mut ended);
        self.endings.publish(&ended);
        Ok(!ended.sessions.is_empty())
    }

    async fn end_user(&self, user: &UserKey) -> Result<(), StoreError> {
        let mut index = self.lock();
        let Some(gone) = index.users.remove(user) else { return Ok(()) };
        for session in &gone.sessions {
            index.remove(session);
        }
        for digest in gone.credentials.values() {
            self.found.remove(digest);
        }
        drop(index);
        let credentials = gone.credentials.into_keys().map(|id| (id, Fate::Void)).collect();
        self.endings.publish(&Ended { sessions: gone.sessions, credentials });
        Ok(())
    }

    async fn end_by_sid(&self, sid: &Digest) -> Result<usize, StoreError> {
        let mut ended = Ended::default();
        let mut index = self.lock();
        for session in index.sids.get(sid).cloned().unwrap_or_default() {
            self.end(&mut index, &session, Ending::Natural, &mut ended);
        }
        drop(index);
        self.endings.publish(&ended);
        Ok(ended.sessions.len())
    }

    async fn grant(&self, opener: &Opener) -> Result<Option<Grant>, StoreError> {
        Ok(self.lock().sessions.get(&opener.session.id).map(|record| record.grant.clone()))
    }

    async fn renew(&self, opener: &Opener, grant: Grant) -> Result<bool, StoreError> {
        let mut index = self.lock();
        let Some(record) = index.sessions.get_mut(&opener.session.id) else { return Ok(false) };
        if grant.granted_at >= record.grant.granted_at {
            record.grant = grant;
        }
        Ok(true)
    }

    async fn touch(&self, uses: &[Use]) -> Result<(), StoreError> {
        for used in uses {
            if let Some(mut found) = self.found.get_mut(&used.digest)
                && found.last_use.is_none_or(|last| last.at <= used.last.at)
            {
                found.last_use = Some(used.last);
            }
        }
        Ok(())
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut ended = Ended::default();
        let mut index = self.lock();
        let over: Vec<SessionId> = index
            .sessions
            .values()
            .filter(|record| record.session.is_over(now))
            .map(|record| record.session.id.clone())
            .collect();
        for session in &over {
            self.end(&mut index, session, Ending::Natural, &mut ended);
        }
        let long_ago = now.saturating_sub(EXPIRED_IS_KNOWN_FOR).unwrap_or(Timestamp::MIN);
        let is_old = |found: &Found| found.credential.is_over(found.last_use, long_ago);
        let old: Vec<Arc<Credential>> =
            self.found.iter().filter(|found| is_old(found)).map(|found| found.credential.clone()).collect();
        for credential in old {
            self.unlink(&mut index, &credential.user, &credential.id);
        }
        drop(index);
        self.endings.publish(&ended);
        Ok(())
    }

    async fn count(&self) -> Result<usize, StoreError> {
        Ok(self.lock().sessions.len())
    }
}

impl MemoryStore {
    /// An empty store that publishes to `endings`.
    #[must_use]
    pub(crate) fn new(endings: Endings) -> Self {
        Self { endings, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // No code that holds it can panic half-way through a change.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the credential open the session.
    fn link(&self, index: &mut Index, credential: &Arc<Credential>, session: &Arc<Session>) {
        if let Some(record) = index.sessions.get_mut(&session.id) {
            record.credentials.insert(credential.id.clone());
        }
        let user = index.users.entry(credential.user.clone()).or_default();
        user.credentials.insert(credential.id.clone(), credential.digest);
        let last_use = self.found.get(&credential.digest).and_then(|found| found.last_use);
        let found = Found { credential: credential.clone(), session: Some(session.clone()), last_use };
        self.found.insert(credential.digest, found);
    }

    /// Removes the credential everywhere.
    fn unlink(&self, index: &mut Index, user: &UserKey, id: &CredentialId) {
        let Some(entry) = index.users.get_mut(user) else { return };
        if let Some(digest) = entry.credentials.remove(id)
            && let Some((_, found)) = self.found.remove(&digest)
            && let Some(session) = found.session
            && let Some(record) = index.sessions.get_mut(&session.id)
        {
            record.credentials.remove(id);
        }
        index.forget_empty(user);
    }

    /// Makes a token open another session than before, or one again.
    fn bind(&self, index: &mut Index, found: &Found, to: &Arc<Session>) {
        let before = found.session.as_ref().and_then(|session| index.sessions.get_mut(&session.id));
        if let Some(record) = before {
            record.credentials.remove(&found.credential.id);
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

    fn end(&self, index: &mut Index, session: &SessionId, ending: Ending, ended: &mut Ended) {
        let Some(record) = index.remove(session) else { return };
        ended.sessions.push(session.clone());
        let user_key = &record.session.user;
        let Some(user) = index.users.get_mut(user_key) else { return };
        user.sessions.retain(|id| id != session);
        for id in record.credentials {
            let Some(digest) = user.credentials.get(&id).copied() else { continue };
            let is_token =
                self.found.get(&digest).is_some_and(|found| found.credential.kind == CredentialKind::Token);
            if is_token && ending == Ending::Natural {
                self.found.alter(&digest, |_, found| Found { session: None, ..found });
                ended.credentials.push((id, Fate::Dormant));
            } else {
                self.found.remove(&digest);
                user.credentials.remove(&id);
                ended.credentials.push((id, Fate::Void));
            }
        }
        index.forget_empty(user_key);
    }

    fn tokens_of(&self, index: &Index, user: &UserKey) -> Vec<Found> {
        let digests = index.users.get(user).into_iter().flat_map(|user| user.credentials.values());
        let found = digests.filter_map(|digest| self.found.get(digest).map(|found| found.clone()));
        found.filter(|found| found.credential.kind == CredentialKind::Token).collect()
    }
}

impl Index {
    fn remove(&mut self, session: &SessionId) -> Option<SessionRecord> {
        let record = self.sessions.remove(session)?;
        if let Some(sid) = &record.session.sid
            && let Some(same) = self.sids.get_mut(sid)
        {
            same.retain(|id| id != session);
            if same.is_empty() {
                self.sids.remove(sid);
            }
        }
        Some(record)
    }

    fn forget_empty(&mut self, user: &UserKey) {
        if self.users.get(user).is_some_and(|user| user.sessions.is_empty() && user.credentials.is_empty()) {
            self.users.remove(user);
        }
    }
}

#[cfg(test)]
mod tests;
