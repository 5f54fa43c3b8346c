//! The backend of a single replica: this process's memory, gone with it. One mutex, held for a few map operations.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{Backend, Events, Lease, Stored, StoredGrant, Swap, UsesOf, Version};
use crate::secret::Digest;
use crate::session::handover::{Handovers, Place};
use crate::session::{CredentialId, LastUse, SessionId, StoreError, UserTag};

/// Sealed records in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserTag, User>,
    digests: HashMap<Digest, (UserTag, Timestamp)>,
    sids: HashMap<Digest, Vec<(UserTag, SessionId, Timestamp)>>,
    handovers: HashMap<Place, (Vec<u8>, Timestamp)>,
}

#[derive(Debug)]
struct User {
    version: Version,
    document: Bytes,
    expires_at: Timestamp,
    grants: HashMap<SessionId, StoredGrant>,
    uses: HashMap<CredentialId, LastUse>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds it can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing at all is kept.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.users.is_empty() && state.digests.is_empty() && state.sids.is_empty()
    }

    /// How many credentials can be looked up.
    #[cfg(test)]
    pub(crate) fn credentials(&self) -> usize {
        self.lock().digests.len()
    }

    /// Everything that is kept, as text and bytes: what a thief of the store would have.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> String {
        let state = self.lock();
        let users = state.users.iter().map(|(tag, user)| {
            let grants: Vec<_> = user.grants.values().map(|grant| grant.sealed.escape_ascii()).collect();
            format!("{tag} {} {grants:?} {:?}\n", user.document.escape_ascii(), user.uses)
        });
        let handovers =
            state.handovers.iter().map(|(place, (record, _))| (place, record.escape_ascii().to_string()));
        let handovers: Vec<_> = handovers.collect();
        users.collect::<String>() + &format!("{:?} {:?} {handovers:?}", state.digests, state.sids)
    }
}

#[async_trait]
impl Backend for Memory {
    const IS_SHARED: bool = false;

    async fn run(&self, events: &dyn Events) {
        events.connected();
        std::future::pending().await
    }

    async fn user_of(&self, digest: &Digest) -> Result<Option<UserTag>, StoreError> {
        Ok(self.lock().digests.get(digest).map(|(user, _)| *user))
    }

    async fn load(&self, user: UserTag, known: &Version) -> Result<Stored, StoreError> {
        let state = self.lock();
        Ok(state.users.get(&user).map_or_else(Stored::default, |user| Stored {
            version: user.version.clone(),
            document: (user.version != *known).then(|| user.document.clone()),
            uses: user.uses.iter().map(|(id, last)| (id.clone(), *last)).collect(),
        }))
    }

    async fn swap(&self, user: UserTag, swap: Swap) -> Result<bool, StoreError> {
        let state = &mut *self.lock();
        let present = state.users.get(&user).map(|user| user.version.clone()).unwrap_or_default();
        if present != swap.expected {
            return Ok(false);
        }
        for session in &swap.ended {
            state.sids.retain(|_, same| {
                same.retain(|(_, id, _)| id != session);
                !same.is_empty()
            });
        }
        state.digests.extend(swap.digests.into_iter().map(|(digest, until)| (digest, (user, until))));
        for (sid, session, until) in swap.sids {
            state.sids.entry(sid).or_default().push((user, session, until));
        }
        let mut grants = HashMap::new();
        let mut uses = HashMap::new();
        if let Some(before) = state.users.remove(&user) {
            (grants, uses) = (before.grants, before.uses);
        }
        grants.retain(|session, _| !swap.ended.contains(session));
        grants.extend(swap.grants.into_iter().map(|grant| (grant.session.clone(), grant)));
        uses.retain(|id, _| !swap.gone.contains(id));
        let (version, document, expires_at) = (swap.version, swap.document, swap.expires_at);
        state.users.insert(user, User { version, document, expires_at, grants, uses });
        Ok(true)
    }

    async fn grant(&self, user: UserTag, session: &SessionId) -> Result<Option<Bytes>, StoreError> {
        let state = self.lock();
        Ok(state.users.get(&user).and_then(|user| user.grants.get(session)).map(|grant| grant.sealed.clone()))
    }

    async fn renew(&self, user: UserTag, grant: &StoredGrant) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let grants = state.users.get_mut(&user).map(|user| &mut user.grants);
        let Some(kept) = grants.and_then(|grants| grants.get_mut(&grant.session)) else { return Ok(false) };
        if grant.granted_at >= kept.granted_at {
            *kept = grant.clone();
        }
        Ok(true)
    }

    async fn touch(&self, uses: &[UsesOf]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for UsesOf { user, uses, .. } in uses {
            let Some(user) = state.users.get_mut(user) else { continue };
            for (credential, last) in uses {
                let known = user.uses.entry(credential.clone()).or_insert(*last);
                if known.at <= last.at {
                    *known = *last;
                }
            }
        }
        Ok(())
    }

    async fn by_sid(&self, sid: &Digest) -> Result<Vec<(UserTag, SessionId)>, StoreError> {
        let state = self.lock();
        let sessions = state.sids.get(sid).into_iter().flatten();
        Ok(sessions.map(|(user, session, _)| (*user, session.clone())).collect())
    }

    /// The only replica is always the one that renews: within it, the broker makes one call at a time for a session.
    async fn lease(
        &self,
        _user: UserTag,
        _session: &SessionId,
        _holder: &str,
        _lasts: Duration,
        _insists: bool,
    ) -> Result<Lease, StoreError> {
        Ok(Lease::Mine)
    }

    async fn release(
        &self,
        _user: UserTag,
        _session: &SessionId,
        _holder: &str,
        _failure: Option<(Bytes, Duration)>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// The broker of the only replica counts by itself.
    async fn claim(
        &self,
        _user: UserTag,
        _session: &SessionId,
        _lasts: Duration,
    ) -> Result<Duration, StoreError> {
        Ok(Duration::ZERO)
    }

    async fn forget(&self, digests: &[Digest]) {
        let mut state = self.lock();
        for digest in digests {
            state.digests.remove(digest);
        }
    }

    async fn forget_sid(&self, sid: &Digest, user: UserTag, session: &SessionId) {
        let mut state = self.lock();
        if let Some(same) = state.sids.get_mut(sid) {
            same.retain(|(other, id, _)| *other != user || id != session);
            if same.is_empty() {
                state.sids.remove(sid);
            }
        }
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.users.retain(|_, user| now < user.expires_at);
        state.digests.retain(|_, (_, until)| now < *until);
        state.sids.retain(|_, same| {
            same.retain(|(_, _, until)| now < *until);
            !same.is_empty()
        });
        state.handovers.retain(|_, (_, until)| now < *until);
        Ok(())
    }
}

#[async_trait]
impl Handovers for Memory {
    async fn put(&self, place: &Place, record: &[u8], until: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let is_free = !state.handovers.contains_key(place);
        if is_free {
            state.handovers.insert(place.clone(), (record.to_vec(), until));
        }
        Ok(is_free)
    }

    async fn peek(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().handovers.get(place).map(|(record, _)| record.clone()))
    }

    async fn exchange(
        &self,
        place: &Place,
        expected: &[u8],
        record: &[u8],
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let found = state.handovers.get_mut(place).filter(|(known, _)| known == expected);
        Ok(found.map(|found| *found = (record.to_vec(), until)).is_some())
    }

    async fn take(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().handovers.remove(place).map(|(record, _)| record))
    }
}
