//! All records of one user as one document: sessions, credentials, and what seals them. Everything here is a pure change
//! of such a document; stores load it, apply a change and put it back.
//!
//! The document is JSON, so that a newer version can add a field that an older one keeps and passes on unread (`other`).
//! What is said in clear: ids, digests, times, a token's label, public keys. All else is sealed: see [`super::seal`].

mod change;
mod codec;
mod credential;
mod grant;
mod mounts;
mod succession;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(super) use self::change::Begun;
use self::credential::Form;
pub(super) use self::grant::{open_grant, seal_grant};
pub(super) use self::succession::Successor;
use self::succession::Superseded;
use super::seal::{Broken, Context, CredentialKeys, DataKey, PublicKey};
use super::{
    Credential, CredentialId, CredentialKind, EXPIRED_IS_KNOWN_FOR, Ended, Fate, Listed, Opener, Places,
    Session, SessionEnd, SessionId, UserKey, UserTag, Wait,
};
use crate::secret::{CredentialKey, Digest};

/// A user's document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Records {
    sessions: BTreeMap<SessionId, SessionRecord>,
    credentials: BTreeMap<CredentialId, CredentialRecord>,
    /// Sessions that a sign-in in the same browser has superseded within the last day.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    superseded: BTreeMap<SessionId, Superseded>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A session: its times in clear, all else sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SessionRecord {
    created_at: Timestamp,
    expires_at: Timestamp,
    /// An [`Identity`], under the data key.
    #[serde(with = "codec::bytes")]
    identity: Vec<u8>,
    /// The data key, sealed to each credential that opens the session.
    #[serde(with = "codec::map_of_bytes")]
    data_keys: BTreeMap<CredentialId, Vec<u8>>,
    /// What it waits for since its last renewal was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waits: Option<Wait>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A credential: all but its session is fixed when it is made, and authenticated under a key that only its holder has.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CredentialRecord {
    #[serde(with = "codec::digest")]
    digest: Digest,
    #[serde(rename = "kind")]
    form: Form,
    name: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    /// The origin of the mounted dashboard that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mount: Option<String>,
    /// Of a dashboard's bearer: the cookie that it is derived from, with which it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<CredentialId>,
    #[serde(with = "codec::public_key")]
    public_key: PublicKey,
    /// An [`Owner`], under the credential's record key; all that stands above is its associated data.
    #[serde(with = "codec::bytes")]
    owner: Vec<u8>,
    /// The session that it opens; none: dormant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// Whose credential it is.
#[derive(Serialize, Deserialize)]
struct Owner {
    tid: String,
    oid: String,
    /// Of a token that its holder may have replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    renewable: bool,
    /// Of a dashboard's bearer: the key that proves its expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Vec<u8>>,
}

/// Who signed in, and which credentials the session has: a token moves to the user's next session only if it stands here.
#[derive(Clone, Serialize, Deserialize)]
struct Identity {
    tid: String,
    oid: String,
    name: String,
    username: String,
    home_account_id: Option<String>,
    login_hint: Option<String>,
    #[serde(with = "codec::optional_digest")]
    sid: Option<Digest>,
    stepped_up: bool,
    #[serde(with = "codec::map_of_public_keys")]
    credentials: BTreeMap<CredentialId, PublicKey>,
}

/// A credential that was opened with its key, and its session, where it has one.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) credential: Arc<Credential>,
    pub(super) session: Option<Arc<Session>>,
}

impl Records {
    /// From the document's bytes.
    ///
    /// # Errors
    /// When they are none.
    pub(super) fn parse(document: &[u8]) -> Result<Self, Broken> {
        serde_json::from_slice(document).map_err(|_| Broken)
    }

    /// The document's bytes.
    pub(super) fn document(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text, numbers and maps with text as keys are JSON")
    }

    /// Opens a credential with its key, and the session that it opens. `None`: there is no such credential.
    ///
    /// # Errors
    /// When a record was changed by somebody who does not hold the credential.
    pub(super) fn open(&self, user: UserTag, key: &CredentialKey) -> Result<Option<Opened>, Broken> {
        let found = self.credentials.iter().find(|(_, record)| record.digest == *key.digest());
        let Some((id, record)) = found else { return Ok(None) };
        let keys = CredentialKeys::of(key);
        let credential = Arc::new(record.open(user, id, &keys)?);
        let session = record.session.as_ref().filter(|session| self.sessions.contains_key(session));
        let session = session.map(|session| self.open_session(user, session, id, &keys)).transpose()?;
        let session = session.map(|(_, _, session)| {
            (session.user == credential.user).then(|| Arc::new(session)).ok_or(Broken)
        });
        Ok(Some(Opened { credential, session: session.transpose()? }))
    }

    /// The key of the opener's session; `None` when the session has ended, or the credential does not open it any more.
    ///
    /// # Errors
    /// When a record was changed.
    pub(super) fn data_key(&self, user: UserTag, opener: &Opener) -> Result<Option<DataKey>, Broken> {
        Ok(self.unseal(user, opener)?.map(|(key, _)| key))
    }

    /// The session that a credential is bound to, and when the credential ends, without opening anything.
    pub(super) fn session_of(&self, digest: &Digest) -> Option<(Option<&SessionId>, Timestamp)> {
        let record = self.credentials.values().find(|record| record.digest == *digest)?;
        let session = record.session.as_ref().filter(|session| self.sessions.contains_key(session));
        Some((session, record.expires_at))
    }

    /// The user's credentials of one kind, oldest first, as far as they can be told without their keys.
    pub(super) fn list(&self, user: &UserKey, kind: CredentialKind) -> Vec<Listed> {
        let of_kind = self.credentials.iter().filter(|(_, record)| record.kind() == kind);
        let mut listed: Vec<Listed> = of_kind
            .map(|(id, record)| Listed {
                credential: record.credential(id, user.clone()),
                session: record.session.as_ref().and_then(|id| {
                    let SessionRecord { expires_at, waits, .. } = *self.sessions.get(id)?;
                    Some(SessionEnd { id: id.clone(), expires_at, waits })
                }),
                last_use: None,
            })
            .collect();
        listed.sort_by_key(|listed| listed.credential.created_at);
        listed
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The sessions.
    pub(super) fn session_ids(&self) -> impl Iterator<Item = &SessionId> {
        self.sessions.keys()
    }

    /// Whether there is a session that has expired, or a credential that need not be remembered any more.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        let long_ago = now.saturating_sub(EXPIRED_IS_KNOWN_FOR).unwrap_or(Timestamp::MIN);
        self.sessions.values().any(|session| now >= session.expires_at)
            || self.credentials.values().any(|credential| long_ago >= credential.expires_at)
            || self.remembers_too_long(now)
    }

    /// What has ended between `before` and this.
    pub(super) fn ended_since(&self, before: &Self) -> Ended {
        let sessions = before.sessions.keys().filter(|id| !self.sessions.contains_key(*id)).cloned();
        let credentials = before.credentials.iter().filter_map(|(id, old)| {
            let fate = match self.credentials.get(id) {
                None => Fate::Void,
                Some(new) if old.session.is_some() && new.session.is_none() => Fate::Dormant,
                Some(_) => return None,
            };
            Some((id.clone(), fate))
        });
        Ended { sessions: sessions.collect(), credentials: credentials.collect() }
    }

    /// Credentials with their digests that stand here and not in `other`.
    pub(super) fn credentials_beyond(&self, other: &Self) -> Vec<(CredentialId, Digest, Timestamp)> {
        let beyond = self.credentials.iter().filter(|(id, _)| !other.credentials.contains_key(*id));
        beyond.map(|(id, record)| (id.clone(), record.digest, record.expires_at)).collect()
    }

    /// Whether there is such a credential.
    pub(super) fn has(&self, credential: &CredentialId) -> bool {
        self.credentials.contains_key(credential)
    }

    /// When nothing of this is of use any more.
    pub(super) fn last_expiry(&self) -> Timestamp {
        let sessions = self.sessions.values().map(|session| session.expires_at);
        let credentials = self.credentials.values().map(|credential| credential.expires_at);
        let superseded = self.superseded.values().map(|old| old.until);
        sessions.chain(credentials).chain(superseded).max().unwrap_or(Timestamp::MIN)
    }

    fn unseal(&self, user: UserTag, opener: &Opener) -> Result<Option<(DataKey, Identity)>, Broken> {
        let (id, session) = (&opener.credential.id, &opener.session.id);
        let bound = self.credentials.get(id).and_then(|record| record.session.as_ref()) == Some(session);
        if !bound || !self.sessions.contains_key(session) {
            return Ok(None);
        }
        let keys = CredentialKeys::of(&opener.key);
        self.open_session(user, session, id, &keys).map(|(key, identity, _)| Some((key, identity)))
    }

    fn open_session(
        &self,
        user: UserTag,
        id: &SessionId,
        credential: &CredentialId,
        keys: &CredentialKeys,
    ) -> Result<(DataKey, Identity, Session), Broken> {
        let record = self.sessions.get(id).ok_or(Broken)?;
        let public_key = self.credentials.get(credential).ok_or(Broken)?.public_key;
        record.open(user, id, credential, public_key, keys)
    }
}

impl SessionRecord {
    /// Opens the session with a credential's keys.
    fn open(
        &self,
        user: UserTag,
        id: &SessionId,
        credential: &CredentialId,
        public_key: PublicKey,
        keys: &CredentialKeys,
    ) -> Result<(DataKey, Identity, Session), Broken> {
        let sealed = self.data_keys.get(credential).ok_or(Broken)?;
        let data_key =
            keys.open_data_key(&self.context("data key", user, id).and(credential.as_str()), sealed)?;
        let identity: Identity = read(&data_key.open(&self.context("identity", user, id), &self.identity)?)?;
        // The seal lists who opens the session. Who was revoked since would otherwise still have the key.
        if identity.credentials.get(credential) != Some(&public_key) {
            return Err(Broken);
        }
        let session = Session {
            id: id.clone(),
            user: UserKey { tid: identity.tid.as_str().into(), oid: identity.oid.as_str().into() },
            name: identity.name.clone(),
            username: identity.username.clone(),
            home_account_id: identity.home_account_id.clone(),
            login_hint: identity.login_hint.clone(),
            sid: identity.sid,
            stepped_up: identity.stepped_up,
            created_at: self.created_at,
            expires_at: self.expires_at,
            places: Places::default(),
        };
        if session.user.tag() != user {
            return Err(Broken);
        }
        Ok((data_key, identity, session))
    }

    /// Binds what is sealed to its purpose, user, session and times.
    fn context(&self, purpose: &str, user: UserTag, id: &SessionId) -> Context {
        session_context(purpose, user, id, self.created_at, self.expires_at)
    }
}

/// Binds other bytes to a session: what a failed renewal leaves for the other replicas.
pub(super) fn context_of(purpose: &str, user: UserTag, session: &Session) -> Context {
    session_context(purpose, user, &session.id, session.created_at, session.expires_at)
}

fn session_context(
    purpose: &str,
    user: UserTag,
    id: &SessionId,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> Context {
    Context::of(purpose)
        .and(user.as_bytes())
        .and(id.as_str())
        .and(created_at.to_string())
        .and(expires_at.to_string())
}

fn write(plain: &impl Serialize) -> zeroize::Zeroizing<Vec<u8>> {
    let bytes = serde_json::to_vec(plain).expect("text, numbers and maps with text as keys are JSON");
    zeroize::Zeroizing::new(bytes)
}

fn read<T: for<'a> Deserialize<'a>>(plain: &[u8]) -> Result<T, Broken> {
    serde_json::from_slice(plain).map_err(|_| Broken)
}
