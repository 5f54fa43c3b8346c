//! One change of one user's records: applied to a copy, put back if nobody was faster.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::SealedStore;
use crate::secret::{CredentialKey, random_base62};
use crate::session::backend::{Backend, StoredGrant, Swap, Version};
use crate::session::near::{State, User};
use crate::session::records::{Begun, Records};
use crate::session::{
    AddTokenError, Arming, Credential, CredentialId, EXPIRED_IS_KNOWN_FOR, Found, MountEntry, Opener,
    Session, StoreError, UserTag,
};

/// Others are faster at most this often before the change is given up.
const MAX_TRIES: usize = 16;
/// 95 bits: two versions of a user's document never have the same name.
const VERSION_CHARS: usize = 16;
/// Clocks of replicas and store may differ; nothing is forgotten early because of that.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);

/// What a change did.
pub(super) enum Changed<T> {
    /// Nothing: there is nothing to put back.
    No(T),
    /// It changed the records.
    Yes(T),
    /// It also made a credential, which need not be looked up any more.
    Credential(T, Found),
    /// It also began a session, with its first credential.
    Session(T, Found, Begun),
}

/// What a change made.
type Made = (Option<Found>, Option<Begun>);

impl Changed<bool> {
    pub(super) fn when(changed: bool) -> Self {
        if changed { Self::Yes(true) } else { Self::No(false) }
    }
}

/// A credential that was just made and opens a session.
pub(super) fn found(opener: &Opener) -> Found {
    of_session(&opener.credential, opener)
}

/// The same of a credential that was just made for the opener's session.
fn of_session(credential: &Arc<Credential>, opener: &Opener) -> Found {
    Found { credential: credential.clone(), session: Some(opener.session.clone()), last_use: None }
}

impl<B: Backend> SealedStore<B> {
    /// Changes a user's records. `apply` may be called several times, each time with the newest records.
    ///
    /// # Errors
    /// What `apply` says, or that the backend does not answer: then it is not known whether the change happened.
    pub(super) async fn change<T, E: From<StoreError>>(
        &self,
        tag: UserTag,
        mut apply: impl FnMut(&mut Records) -> Result<Changed<T>, E> + Send,
    ) -> Result<T, E> {
        let (asked_at, user) = (Instant::now(), self.near.user(tag));
        let mut state = self.state_of(&user).await?;
        if !self.near.is_fresh(&user) || !state.loaded {
            self.look(&user, &mut state).await?;
        }
        for _ in 0..MAX_TRIES {
            let mut records = (*state.records).clone();
            let (value, made) = match apply(&mut records) {
                // Nothing to do, or nothing that can be done: only the store's own records may say that. What is known
                // here may be a moment behind, and nobody shall be told that a session has ended that stands.
                Ok(Changed::No(_)) | Err(_) if !state.has_looked_since(asked_at) => {
                    self.look(&user, &mut state).await?;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(Changed::No(value)) => return Ok(value),
                Ok(Changed::Yes(value)) => (value, (None, None)),
                Ok(Changed::Credential(value, found)) => (value, (Some(found), None)),
                Ok(Changed::Session(value, found, begun)) => (value, (Some(found), Some(begun))),
            };
            let gone = state.records.digests_gone(&records);
            if self.put_back(&user, &mut state, records, made).await? {
                drop(state);
                if !gone.is_empty() {
                    // What stays leads to nothing, and expires.
                    self.backend.forget(&gone).await;
                }
                return Ok(value);
            }
        }
        tracing::warn!(user = %tag, "a user's records change faster than one of the changes could be made");
        Err(StoreError.into())
    }

    /// Lets tokens open the opener's session; says which do.
    pub(super) async fn arm_tokens(
        &self,
        opener: &Opener,
        tokens: &[Arming],
        now: Timestamp,
    ) -> Result<Vec<CredentialId>, StoreError> {
        let tag = opener.session.user.tag();
        self.change(tag, |records| {
            records.prune(now);
            records.arm(tag, opener, tokens, now).map(Changed::Yes).map_err(|broken| unverified(tag, &broken))
        })
        .await
    }

    /// Adds a token to the opener's session.
    pub(super) async fn put_token(
        &self,
        opener: &Opener,
        token: Arc<Credential>,
        key: &CredentialKey,
    ) -> Result<(), AddTokenError> {
        let tag = opener.session.user.tag();
        self.change(tag, |records| {
            records.prune(token.created_at);
            records.add_token(tag, opener, &token, key)?;
            Ok(Changed::Credential((), of_session(&token, opener)))
        })
        .await
    }

    /// Adds a browser's credentials for a mounted dashboard to the opener's session.
    pub(super) async fn add_mount(&self, opener: &Opener, entry: &MountEntry) -> Result<(), AddTokenError> {
        let (tag, (cookie, _)) = (opener.session.user.tag(), &entry.cookie);
        self.change(tag, |records| {
            records.prune(cookie.created_at);
            records.enter_mount(tag, opener, entry)?;
            Ok(Changed::Credential((), of_session(cookie, opener)))
        })
        .await
    }

    /// `false`: somebody was faster, and what is known now is theirs.
    async fn put_back(
        &self,
        user: &Arc<User>,
        state: &mut State,
        records: Records,
        (found, begun): Made,
    ) -> Result<bool, StoreError> {
        let session = found.as_ref().and_then(|found| found.session.clone());
        let swap = swap(state, &records, session.zip(begun));
        let (version, gone) = (swap.version.clone(), swap.gone.clone());
        let swapped = self.backend.swap(user.tag, swap).await;
        if let Ok(true) = swapped {
            state.version = version.clone();
            state.uses.retain(|id, _| !gone.contains(id));
            self.near.has_put(user, &version);
            self.replace(state, Arc::new(records));
        } else {
            // It may have happened all the same: the answer was lost, or the command was sent twice and the second one
            // found the first one's work. The version tells.
            self.near.distrust(user);
            self.look(user, state).await.map_err(|error| swapped.err().unwrap_or(error))?;
            if state.version != version {
                return swapped;
            }
        }
        if let Some(found) = found {
            self.near.keep(user, state, &found);
        }
        Ok(true)
    }
}

fn swap(state: &State, records: &Records, begun: Option<(Arc<Session>, Begun)>) -> Swap {
    let before = &state.records;
    // When nothing is left of a user, an empty document stays for as long as what was there could have: otherwise a
    // command that arrives late, such as a sign-in from before a sign-out, would find the place as empty as it expected.
    let last_expiry = records.last_expiry().max(before.last_expiry());
    let mut swap = Swap {
        expected: state.version.clone(),
        version: Version(random_base62(VERSION_CHARS)),
        document: Bytes::from(records.document()),
        expires_at: kept_until(last_expiry),
        ended: records.ended_since(before).sessions,
        ..Swap::default()
    };
    for (_, digest, expires_at) in records.credentials_beyond(before) {
        swap.digests.push((digest, kept_until(expires_at)));
    }
    swap.gone.extend(before.credentials_beyond(records).into_iter().map(|(id, ..)| id));
    // Uses are told late: that of a credential which was gone by then has nobody else to take it away.
    swap.gone.extend(state.uses.keys().filter(|id| !records.has(id)).cloned());
    if let Some((session, begun)) = begun {
        let expires_at = kept_until(session.expires_at);
        let granted_at = session.created_at;
        swap.sids.extend(begun.sid.map(|sid| (sid, session.id.clone(), expires_at)));
        let sealed = Bytes::from(begun.grant);
        swap.grants.push(StoredGrant { session: session.id.clone(), granted_at, sealed, expires_at });
    }
    swap
}

/// When a record of what expires then can be forgotten.
pub(super) fn kept_until(expires_at: Timestamp) -> Timestamp {
    expires_at.saturating_add(EXPIRED_IS_KNOWN_FOR + MARGIN).unwrap_or(Timestamp::MAX)
}

/// What a change answers whose user's records were not written by the credentials that they name.
pub(super) fn unverified(user: UserTag, broken: &dyn std::fmt::Display) -> StoreError {
    tracing::error!(%user, error = %broken, "a record in the store does not verify");
    StoreError
}
