//! A browser has one session. A sign-in supersedes the one that its browser had, and for a day the records say who did:
//! when two tabs end their sign-in at once, both present the cookie from before, and the later one must find the session
//! that the earlier one has just begun. It is also found when the answer that should have brought its cookie was lost.
//!
//! Of a superseded session its cookie's record and its own sealed identity stay, whose list says which tokens it had. The
//! cookie opens nothing any more. Who follows is said in clear: whoever can write that can end sessions anyway.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Broken, CredentialId, CredentialKeys, CredentialKind, CredentialRecord, DataKey, Identity, Opener,
    PublicKey, Records, Session, SessionId, SessionRecord, UserTag, codec,
};
use crate::secret::{CredentialKey, Digest};
use crate::session::{EXPIRED_IS_KNOWN_FOR, Ending, NewSession, Wait};

/// Superseded sessions of one user that are remembered; the oldest go. One browser needs as many as it has tabs that end
/// their sign-in at the same moment.
const MAX_SUPERSEDED: usize = 16;

/// A session in a user's document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::session) struct Successor {
    #[serde(with = "codec::user")]
    pub(in crate::session) user: UserTag,
    pub(in crate::session) session: SessionId,
}

/// A session that was superseded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Superseded {
    /// By whom; another user where the browser changed hands.
    by: Successor,
    /// Until when this is remembered.
    pub(super) until: Timestamp,
    /// Its record, with the data key for its cookie alone.
    session: SessionRecord,
    /// Its cookie.
    cookie: CredentialId,
    /// The cookie's record.
    credential: CredentialRecord,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Successor {
    pub(in crate::session) fn of(session: &Session) -> Self {
        Self { user: session.user.tag(), session: session.id.clone() }
    }
}

impl Records {
    /// The session that a browser's cookie opens, or opened until it was superseded.
    ///
    /// # Errors
    /// When a record was changed by somebody who does not hold the cookie.
    pub(in crate::session) fn of_browser(
        &self,
        user: UserTag,
        cookie: &CredentialKey,
    ) -> Result<Option<Opener>, Broken> {
        let key = cookie.clone();
        if let Some(opened) = self.open(user, cookie)? {
            let (credential, session) = (opened.credential, opened.session);
            let session = session.filter(|_| credential.kind == CredentialKind::Cookie);
            return Ok(session.map(|session| Opener { credential, session, key }));
        }
        let found = self.superseded.iter().find(|(_, old)| old.credential.digest == *cookie.digest());
        let Some((id, old)) = found else { return Ok(None) };
        let keys = CredentialKeys::of(cookie);
        let credential = Arc::new(old.credential.open(user, &old.cookie, &keys)?);
        let (_, _, session) = old.open(user, id, &keys)?;
        let session = Arc::new(session);
        let is_whole = session.user == credential.user && credential.kind == CredentialKind::Cookie;
        is_whole.then_some(Some(Opener { credential, session, key })).ok_or(Broken)
    }

    /// The new session takes the place of the one that its browser had, and of whichever followed that one meanwhile. Of
    /// the same user's, live tokens move along, as far as the seal of the browser's own session lists them: a record that
    /// somebody planted in the store is not among them. Says who follows in another user's records.
    pub(super) fn succeed(
        &mut self,
        user: UserTag,
        new: &NewSession,
        data_key: &DataKey,
        identity: &mut Identity,
    ) -> Option<Successor> {
        let (old, session) = (new.supersedes.as_ref()?, &new.opener.session);
        let listed = if old.session.user == session.user { self.listed(user, old) } else { BTreeMap::new() };
        let first = Successor::of(&old.session);
        self.supersede(user, first, &Successor::of(session), session.created_at, |records, before| {
            for token in records.movable_tokens(before, &listed) {
                records.bind(user, &token, &session.id, data_key, identity);
            }
        })
    }

    /// Ends a session for a newer one of its browser, or whichever followed it. `ends` is told of each session that ends,
    /// before it does. Says who follows in another user's records.
    pub(in crate::session) fn supersede(
        &mut self,
        user: UserTag,
        first: Successor,
        by: &Successor,
        now: Timestamp,
        mut ends: impl FnMut(&mut Self, &SessionId),
    ) -> Option<Successor> {
        let mut next = Some(first);
        // Each round but the last makes one more of a bounded number of entries lead to `by`, and none is met twice.
        while let Some(at) = next.take_if(|at| at.user == user) {
            next = match self.superseded.get_mut(&at.session) {
                Some(old) => Some(std::mem::replace(&mut old.by, by.clone())).filter(|before| before != by),
                None => {
                    ends(self, &at.session);
                    self.end_superseded(&at.session, by, now);
                    None
                }
            };
        }
        next
    }

    /// Whether the session stands, or is remembered as a superseded one.
    pub(in crate::session) fn knows(&self, session: &SessionId) -> bool {
        self.sessions.contains_key(session) || self.superseded.contains_key(session)
    }

    /// Ends a session, or whichever followed it: its browser signs out. Says whether one ended, or who follows in another
    /// user's records.
    pub(in crate::session) fn end_last(
        &mut self,
        user: UserTag,
        first: Successor,
    ) -> Result<bool, Successor> {
        let mut at = first;
        for _ in 0..=MAX_SUPERSEDED {
            if at.user != user {
                return Err(at);
            }
            if self.end(&at.session, Ending::Natural) {
                return Ok(true);
            }
            let Some(old) = self.superseded.get(&at.session) else { break };
            at = old.by.clone();
        }
        Ok(false)
    }

    /// Notes what a session waits for. `false`: nothing changed by it.
    pub(in crate::session) fn set_waits(&mut self, session: &SessionId, waits: Option<Wait>) -> bool {
        let record = self.sessions.get_mut(session);
        record.is_some_and(|record| std::mem::replace(&mut record.waits, waits) != waits)
    }

    /// What a session waits for.
    pub(in crate::session) fn waits(&self, session: &SessionId) -> Option<Wait> {
        self.sessions.get(session)?.waits
    }

    /// Digests that led here and do not any more.
    pub(in crate::session) fn digests_gone(&self, after: &Self) -> Vec<Digest> {
        let after: HashSet<&Digest> = after.digests().collect();
        self.digests().filter(|digest| !after.contains(digest)).copied().collect()
    }

    pub(super) fn forget_superseded(&mut self, now: Timestamp) {
        self.superseded.retain(|_, old| now < old.until);
    }

    pub(super) fn remembers_too_long(&self, now: Timestamp) -> bool {
        self.superseded.values().any(|old| now >= old.until)
    }

    fn digests(&self) -> impl Iterator<Item = &Digest> {
        let superseded = self.superseded.values().map(|old| &old.credential.digest);
        self.credentials.values().map(|record| &record.digest).chain(superseded)
    }

    /// Which credentials the seal of the opener's session lists, with their public keys.
    fn listed(&self, user: UserTag, opener: &Opener) -> BTreeMap<CredentialId, PublicKey> {
        let identity = match self.superseded.get(&opener.session.id) {
            Some(old) => {
                let keys = CredentialKeys::of(&opener.key);
                old.open(user, &opener.session.id, &keys).ok().map(|(_, identity, _)| identity)
            }
            None => self.unseal(user, opener).ok().flatten().map(|(_, identity)| identity),
        };
        identity.map(|identity| identity.credentials).unwrap_or_default()
    }

    /// Live tokens of a session that is not blocked, of those that are listed; and what its browser has for dashboards.
    fn movable_tokens(
        &self,
        session: &SessionId,
        listed: &BTreeMap<CredentialId, PublicKey>,
    ) -> Vec<CredentialId> {
        if self.waits(session) == Some(Wait::Blocked) {
            return Vec::new();
        }
        let is_movable = |(id, record): &(&CredentialId, &CredentialRecord)| {
            record.kind() != CredentialKind::Cookie
                && record.session.as_ref() == Some(session)
                && listed.get(*id) == Some(&record.public_key)
        };
        self.credentials.iter().filter(is_movable).map(|(id, _)| id.clone()).collect()
    }

    fn end_superseded(&mut self, session: &SessionId, by: &Successor, now: Timestamp) {
        let Some(mut record) = self.sessions.get(session).cloned() else { return };
        let is_cookie = |(_, record): &(&CredentialId, &CredentialRecord)| {
            record.kind() == CredentialKind::Cookie && record.session.as_ref() == Some(session)
        };
        let cookie = self.credentials.iter().find(is_cookie).map(|(id, record)| (id.clone(), record.clone()));
        self.end(session, Ending::Natural);
        let Some((cookie, credential)) = cookie else { return };
        record.data_keys.retain(|id, _| *id == cookie);
        let until = now.saturating_add(EXPIRED_IS_KNOWN_FOR).unwrap_or(Timestamp::MAX);
        let until = until.min(credential.expires_at);
        let by = by.clone();
        let old = Superseded { by, until, session: record, cookie, credential, other: Map::new() };
        while self.superseded.len() >= MAX_SUPERSEDED {
            let oldest = self.superseded.iter().min_by_key(|(_, old)| old.until).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { break };
            self.superseded.remove(&oldest);
        }
        self.superseded.insert(session.clone(), old);
    }
}

impl Superseded {
    fn open(
        &self,
        user: UserTag,
        id: &SessionId,
        keys: &CredentialKeys,
    ) -> Result<(DataKey, Identity, Session), Broken> {
        self.session.open(user, id, &self.cookie, self.credential.public_key, keys)
    }
}
