//! A credential, without its secret.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::bearer::ProofKey;
use super::{CredentialId, Kept, LastUse, UserKey};
use crate::clock::after;
use crate::secret::Digest;

/// The kinds of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A browser's session cookie, on the public URL's host.
    Cookie,
    /// A proxy token for kubectl and scripts.
    Token,
    /// A browser's cookie on the host of a mounted dashboard, where alone it is taken.
    MountCookie,
    /// What a mounted dashboard calls the API with; derived from such a cookie, and ends with it.
    Bearer,
}

/// What a caller presents, without its secret.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// Its name.
    pub(crate) id: CredentialId,
    /// What it is found by.
    pub(crate) digest: Digest,
    /// What it is.
    pub(crate) kind: CredentialKind,
    /// Whose it is.
    pub(crate) user: UserKey,
    /// The name that the user gave it.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it ends, whatever becomes of its session.
    pub(crate) expires_at: Timestamp,
    /// How long it may stay unused; not of a proxy token.
    pub(crate) idle: Option<Duration>,
    /// Whether its holder may have it replaced by a fresh one: only a token that was handed to the credential plugin.
    pub(crate) renewable: bool,
    /// Which mounted dashboard it is for; of the last two kinds alone.
    pub(crate) mounted: Option<Mounted>,
    /// What the log and the audit log say of it.
    pub(crate) text: Kept,
}

/// The mounted dashboard that a credential is for.
#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    /// The mount's origin.
    pub(crate) origin: Arc<str>,
    /// Of a bearer: the cookie that it is derived from.
    pub(crate) cookie: Option<CredentialId>,
    /// Of a bearer that was opened with its own key: what its expiry is proven with.
    pub(crate) proof: Option<ProofKey>,
}

impl Credential {
    /// A new credential; it has not been used.
    #[must_use]
    pub(crate) fn new(
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
            renewable: false,
            mounted: None,
            text: Kept::default(),
        }
    }

    /// Whether it is over: expired, or unused for too long.
    #[must_use]
    pub(crate) fn is_over(&self, last_use: Option<LastUse>, now: Timestamp) -> bool {
        // One in the future was noted before a clock was set back: it is no longer ago than now.
        let used_at = last_use.map_or(self.created_at, |last| last.at.min(now));
        now >= self.expires_at || self.idle.is_some_and(|idle| now >= after(used_at, idle))
    }

    /// Whether it is for the dashboard that is mounted at `origin`.
    #[must_use]
    pub(crate) fn is_for_mount(&self, origin: &str) -> bool {
        self.mounted.as_ref().is_some_and(|mounted| &*mounted.origin == origin)
    }
}

impl CredentialKind {
    /// As logs and audit events name it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Token => "token",
            Self::MountCookie => "mount_cookie",
            Self::Bearer => "dashboard",
        }
    }
}
