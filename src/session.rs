//! Sessions and credentials: plain records, and the [`SessionStore`] that keeps them.
//!
//! A *session* is one sign-in of one user; its *grant* is what Entra gave it. A *credential* (browser cookie or proxy
//! token) opens a session and is kept only as a digest. A proxy token outlives its session: it is then *dormant* until
//! its user arms it again. A dashboard that is mounted on a host of its own has two more: a cookie there, and the bearer
//! that is derived from it (see `bearer`). Whatever ends, here or on another replica, is published once, as [`Ended`]. A store that
//! fails is never mistaken for a missing session.
//!
//! From the outside in: [`SessionStore`] is what others see; [`SealedStore`] keeps sealed `records` in a `backend` (memory
//! or Redis), and beside it what this replica has opened, in `near`.

pub(crate) mod backend;
pub(crate) mod bearer;
#[cfg(test)]
pub(crate) mod conformance;
mod credential;
mod ended;
pub(crate) mod handover;
mod kept;
mod near;
mod records;
mod seal;
mod sealed;
mod store;
mod uses;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

pub(crate) use self::backend::{Backend, Credentials, Examined, Login, Memory, Redis, Unreached, examine};
pub(crate) use self::credential::{Credential, CredentialKind, Mounted};
pub(crate) use self::ended::{Ended, Endings, Fate};
pub(crate) use self::handover::{Handover, Handovers};
pub(crate) use self::kept::{Kept, Places};
pub(crate) use self::sealed::SealedStore;
pub(crate) use self::store::{Arming, Holder, MountEntry, NewSession, SessionStore, StoreState, Turn};
pub(crate) use self::uses::{Use, Uses};
use crate::secret::{AksToken, CredentialKey, Digest, RefreshToken, random_base62};

/// Characters of an id: 131 bits, so that ids never collide.
const ID_CHARS: usize = 22;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(Arc<str>);

        impl $name {
            /// A new random id.
            #[must_use]
            pub(crate) fn random() -> Self {
                Self(random_base62(ID_CHARS).into())
            }

            /// The id as text; it is public and opens nothing.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(|text| Self(text.into()))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// Names a session.
    SessionId
}
id! {
    /// Names a credential in lists, logs and `DELETE /tokens/{id}`.
    CredentialId
}

/// What keys a user: tenant and object id of the verified ID token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UserKey {
    /// Tenant id.
    pub(crate) tid: Arc<str>,
    /// Object id.
    pub(crate) oid: Arc<str>,
}

/// Names a user in a store without telling who it is: the first 128 bits of a SHA-256 digest of tenant and object id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserTag([u8; 16]);

/// One sign-in of one user.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Its name.
    pub(crate) id: SessionId,
    /// Whose it is.
    pub(crate) user: UserKey,
    /// Display name, for pages.
    pub(crate) name: String,
    /// User name, for pages and kubeconfigs.
    pub(crate) username: String,
    /// `uid.utid` of client_info; data only.
    pub(crate) home_account_id: Option<String>,
    /// Names the account to Entra.
    pub(crate) login_hint: Option<String>,
    /// Digest of Entra's session id, for its front-channel logout.
    pub(crate) sid: Option<Digest>,
    /// Whether this sign-in was a step-up. Until a usable AKS token has followed it, no demand leads to another one.
    pub(crate) stepped_up: bool,
    /// When the user signed in.
    pub(crate) created_at: Timestamp,
    /// The session's cap.
    pub(crate) expires_at: Timestamp,
    /// What later stages keep beside it.
    pub(crate) places: Places,
}

/// What Entra gave a session: the part that changes.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// Mints AKS tokens.
    pub(crate) refresh_token: RefreshToken,
    /// The last AKS token, where one was minted.
    pub(crate) aks: Option<AksGrant>,
    /// When it was asked for: of two writers the newer one wins.
    pub(crate) granted_at: Timestamp,
}

/// A user's access token for the API server, with its times.
#[derive(Clone, Debug)]
pub(crate) struct AksGrant {
    /// The token.
    pub(crate) token: AksToken,
    /// When it was asked for.
    pub(crate) minted_at: Timestamp,
    /// When it expires.
    pub(crate) expires_at: Timestamp,
    /// When Entra asks us to renew it, counted from `minted_at`, where it does.
    pub(crate) refresh_in: Option<Duration>,
}

/// When and from where a credential was last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastUse {
    /// When.
    pub(crate) at: Timestamp,
    /// From where, as far as trusted proxies vouch for it.
    pub(crate) from: IpAddr,
}

/// A credential that was found, and the session that it opens.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The credential.
    pub(crate) credential: Arc<Credential>,
    /// `None`: a dormant token.
    pub(crate) session: Option<Arc<Session>>,
    /// Its last use, as far as the store was told: [`Uses`] tells it in batches.
    pub(crate) last_use: Option<LastUse>,
}

impl Found {
    /// Reads a word of each object that the request will need, so that the processor fetches all of them from memory at
    /// the same time: with thousands of sessions they are in none of its caches. Without it each would be waited for when
    /// its turn comes: 2 % of a request's processor time beside 5,000 sessions.
    fn fetch(&self) {
        let Some(session) = &self.session else { return };
        let Places { text, limits, token } = &session.places;
        std::hint::black_box([self.credential.text.word(), text.word(), limits.word(), token.word()]);
    }
}

/// What a session waits for since its last renewal was refused: only its user, or a policy, can end that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wait {
    /// A step-up, which a sign-in in its own browser meets.
    StepUp,
    /// That its user is let in again. Also what a newer version says and this one does not know.
    #[serde(other)]
    Blocked,
}

/// A session's name and end: what can be told of it without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionEnd {
    /// The session.
    pub(crate) id: SessionId,
    /// Its cap.
    pub(crate) expires_at: Timestamp,
    /// What it waits for.
    pub(crate) waits: Option<Wait>,
}

/// A credential in a list. Nothing here was verified with its own key, which its user holds.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// The credential.
    pub(crate) credential: Credential,
    /// `None`: a dormant token.
    pub(crate) session: Option<SessionEnd>,
    /// Its last use, as far as the store was told.
    pub(crate) last_use: Option<LastUse>,
}

/// A live credential of a live session, with the key that opens the session's grant. Whatever acts for the session
/// later, such as the renewal of its AKS token beside an open watch, keeps one of these.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    /// The credential.
    pub(crate) credential: Arc<Credential>,
    /// The session that it opens.
    pub(crate) session: Arc<Session>,
    /// What the credential is found by and opens with.
    pub(crate) key: CredentialKey,
}

/// What becomes of the tokens of a session that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It came to its end: tokens become dormant.
    Natural,
    /// Somebody ended it: tokens are void for ever.
    Final,
}

/// Why a token was not made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum AddTokenError {
    /// The session ended meanwhile.
    #[error("the session has ended")]
    SessionGone,
    /// The user has as many tokens as one may have.
    #[error("the user has {MAX_TOKENS_PER_USER} tokens already")]
    TooMany,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store did not answer. It says nothing about whether a session exists.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the session store does not answer")]
pub(crate) struct StoreError;

/// Proxy tokens of one user, dormant ones included. A bound on memory, far above what a person needs.
pub(crate) const MAX_TOKENS_PER_USER: usize = 1_000;
/// Cookies of one session for one mounted dashboard: its browser needs one, and one more for each tab that asks for it at
/// the same moment. The oldest goes.
pub(crate) const MAX_COOKIES_PER_MOUNT: usize = 4;
/// Sessions of one user: the oldest ends when one more begins.
pub(crate) const MAX_SESSIONS_PER_USER: usize = 1_000;

/// An expired credential that is presented within this time is told to have expired, not to be unknown.
pub(crate) const EXPIRED_IS_KNOWN_FOR: SignedDuration = SignedDuration::from_hours(24);

impl UserKey {
    /// What names the user in a store.
    #[must_use]
    pub(crate) fn tag(&self) -> UserTag {
        let text = format!("entrada/1 user\n{}\n{}", self.tid, self.oid);
        let mut tag = [0; 16];
        tag.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..16]);
        UserTag(tag)
    }
}

impl UserTag {
    /// Its 16 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From its text: 32 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok())??;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for UserTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for UserTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Session {
    /// The name that the API server knows the user by: a guest's object id, and everybody else's user name.
    #[must_use]
    pub(crate) fn kubernetes_name(&self) -> &str {
        let home = self.home_account_id.as_deref().and_then(|id| id.split_once('.'));
        // Nearly always they are the same to the letter, which is quickly seen.
        let is = |one: &str, other: &str| one == other || one.eq_ignore_ascii_case(other);
        let is_guest = home.is_some_and(|(oid, tid)| !is(oid, &self.user.oid) || !is(tid, &self.user.tid));
        if is_guest || self.username.is_empty() { &self.user.oid } else { &self.username }
    }

    /// Whether its cap has come.
    #[must_use]
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }
}
