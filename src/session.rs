//! Sessions and credentials: what the store keeps, and what may happen to it.
//!
//! A *session* is one sign-in of one user; its *grant* is what Entra gave it. A *credential* (browser cookie or proxy
//! token) opens a session and is kept only as a digest. A proxy token outlives its session: it is then *dormant* until
//! its user arms it again. Ending anything returns the ids of the credentials that lost their session, so that the
//! caller can end their streams. A store that fails is never mistaken for a missing session.

mod memory;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use thiserror::Error;

pub use self::memory::MemoryStore;

use crate::clock::after;
use crate::entra::Minted;
use crate::secret::{Digest, RefreshToken, random_base62};

/// Characters of an id: 131 bits, so that ids never collide.
const ID_CHARS: usize = 22;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn random() -> Self {
                Self(random_base62(ID_CHARS).into())
            }

            /// The id as text; it is public and opens nothing.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
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
pub struct UserKey {
    /// Tenant id.
    pub tid: Arc<str>,
    /// Object id.
    pub oid: Arc<str>,
}

/// One sign-in of one user.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserKey,
    /// Display name, for pages.
    pub name: String,
    /// User name, for pages and kubeconfigs.
    pub username: String,
    /// `uid.utid` of client_info; data only.
    pub home_account_id: Option<String>,
    /// Names the account to Entra.
    pub login_hint: Option<String>,
    /// Digest of Entra's session id, for its front-channel logout.
    pub sid: Option<Digest>,
    /// Whether this sign-in already was a step-up: a further demand is then not answered by yet another.
    pub stepped_up: bool,
    /// When the user signed in.
    pub created_at: Timestamp,
    /// The session's cap.
    pub expires_at: Timestamp,
}

/// What Entra gave a session: the part that changes.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Mints AKS tokens.
    pub refresh_token: RefreshToken,
    /// The last AKS token, where one was minted.
    pub aks: Option<Arc<Minted>>,
    /// When it was asked for: of two writers the newer one wins.
    pub granted_at: Timestamp,
}

/// The two kinds of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A browser's session cookie.
    Cookie,
    /// A proxy token for kubectl and scripts.
    Token,
}

/// What a caller presents, without its secret.
#[derive(Debug)]
pub struct Credential {
    /// Its name.
    pub id: CredentialId,
    /// What it is found by.
    pub digest: Digest,
    /// Cookie or token.
    pub kind: CredentialKind,
    /// Whose it is.
    pub user: UserKey,
    /// The name that the user gave it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, whatever becomes of its session.
    pub expires_at: Timestamp,
    /// How long it may stay unused; cookies only.
    pub idle: Option<Duration>,
    /// Seconds since 1970; 0 while unused.
    last_used_at: AtomicI64,
    last_used_from: ArcSwapOption<IpAddr>,
}

/// A credential that was found, and the session that it opens.
#[derive(Clone, Debug)]
pub struct Found {
    /// The credential.
    pub credential: Arc<Credential>,
    /// `None`: a dormant token.
    pub session: Option<Arc<Session>>,
}

/// What becomes of the tokens of a session that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It came to its end: tokens become dormant.
    Natural,
    /// Somebody ended it: tokens are void for ever.
    Final,
}

/// Why a token was not made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AddTokenError {
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
pub struct StoreError;

/// Proxy tokens of one user, dormant ones included. A bound on memory, far above what a person needs.
pub const MAX_TOKENS_PER_USER: usize = 1_000;
/// Sessions of one user: the oldest ends when one more begins.
pub const MAX_SESSIONS_PER_USER: usize = 1_000;

impl Credential {
    /// A new credential; it has not been used.
    #[must_use]
    pub fn new(
        digest: Digest,
        kind: CredentialKind,
        user: UserKey,
        name: String,
        created_at: Timestamp,
        lifetime: Duration,
        idle: Option<Duration>,
    ) -> Self {
        Self {
            id: CredentialId::random(),
            digest,
            kind,
            user,
            name,
            created_at,
            expires_at: after(created_at, lifetime),
            idle,
            last_used_at: AtomicI64::new(0),
            last_used_from: ArcSwapOption::empty(),
        }
    }

    /// Notes a use. Written at most once a second, so that a busy credential costs no shared writes.
    pub fn touch(&self, now: Timestamp, from: IpAddr) {
        let second = now.as_second();
        if self.last_used_at.load(Ordering::Relaxed) != second {
            self.last_used_at.store(second, Ordering::Relaxed);
            self.last_used_from.store(Some(Arc::new(from)));
        }
    }

    /// When it was last used.
    #[must_use]
    pub fn last_used_at(&self) -> Option<Timestamp> {
        let second = self.last_used_at.load(Ordering::Relaxed);
        (second != 0).then(|| Timestamp::from_second(second).ok())?
    }

    /// The address of its last use.
    #[must_use]
    pub fn last_used_from(&self) -> Option<IpAddr> {
        self.last_used_from.load().as_deref().copied()
    }

    /// Whether it is over: expired, or unused for too long.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        let idle_end = self.idle.map(|idle| after(self.last_used_at().unwrap_or(self.created_at), idle));
        now >= self.expires_at || idle_end.is_some_and(|end| now >= end)
    }
}

impl Session {
    /// Whether its cap has come.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }
}
