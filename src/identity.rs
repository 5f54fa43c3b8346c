//! Who is asking: a presented credential becomes an [`Identity`], or is refused.
//!
//! One credential decides, in this order: `Authorization: Bearer`, the bearer subprotocol of a WebSocket, the session
//! cookie. One that is presented and refused ends the matter; there is no fall-through to the next.

pub mod attempt;
pub mod cookie;
pub mod signin;

mod bearer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use thiserror::Error;

use self::bearer::Presented;
use crate::clock::{Clock, until};
use crate::secret::{Digest, cookie_digest, token_digest};
use crate::session::{Credential, CredentialKind, Found, MemoryStore, Session, StoreError};

/// Evidence that a live credential of a live session was presented. Made here only.
#[derive(Clone, Debug)]
pub struct Identity {
    credential: Arc<Credential>,
    session: Arc<Session>,
}

/// Why nobody was identified.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// No credential at all.
    #[error("no credential was presented")]
    NotPresented,
    /// Two `Authorization` headers: which one is meant?
    #[error("two Authorization headers were presented")]
    Twice,
    /// Not a credential of ours, or not any more.
    #[error("the presented {} is not known", name(*.0))]
    Unknown(CredentialKind),
    /// Its own expiry, or a cookie's idleness.
    #[error("the presented {} has expired", name(*.0))]
    Expired(CredentialKind),
    /// A proxy token whose session has ended.
    #[error("the presented token's session has ended")]
    Dormant,
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The session, and with it all of its tokens.
    Session,
    /// The token alone.
    Token,
}

const WARNED_SHARE: u32 = 10;
const WARNED_AT_MOST: Duration = Duration::from_secs(3_600);

/// Looks credentials up.
#[derive(Clone, Debug)]
pub struct Authenticator {
    store: Arc<MemoryStore>,
    clock: Clock,
}

impl Identity {
    /// The credential that was presented.
    #[must_use]
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// The session that it opens.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether a browser's cookie was presented, for which browsers' dangers must be guarded against.
    #[must_use]
    pub fn is_cookie(&self) -> bool {
        self.credential.kind == CredentialKind::Cookie
    }

    /// When credential or session ends by itself, whichever is first.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.credential.expires_at.min(self.session.expires_at)
    }

    /// What ends soon, and in how long: in the last tenth of its life, at most in its last hour.
    #[must_use]
    pub fn ends_soon(&self, now: Timestamp) -> Option<(Ends, Duration)> {
        let (what, from, to) = if self.credential.expires_at < self.session.expires_at {
            (Ends::Token, self.credential.created_at, self.credential.expires_at)
        } else {
            (Ends::Session, self.session.created_at, self.session.expires_at)
        };
        let left = until(now, to);
        (left <= (until(from, to) / WARNED_SHARE).min(WARNED_AT_MOST)).then_some((what, left))
    }
}

impl Authenticator {
    /// Credentials are looked up in `store`.
    #[must_use]
    pub fn new(store: Arc<MemoryStore>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Identifies the caller by the one credential that decides. `client` is noted as the address of its last use.
    ///
    /// # Errors
    /// Why not.
    pub async fn identify(&self, headers: &HeaderMap, client: IpAddr) -> Result<Identity, Refused> {
        let (digest, kind) = presented(headers)?;
        let found = self.store.find(&digest).await?.filter(|found| found.credential.kind == kind);
        let identity = self.judge(found, kind)?;
        identity.credential.touch(self.clock.now(), client);
        Ok(identity)
    }

    /// Whether a credential that was accepted once would still be accepted now: for streams, which outlive the look at
    /// their credential.
    ///
    /// # Errors
    /// Why not.
    pub async fn confirm(&self, credential: &Credential) -> Result<Identity, Refused> {
        let found = self.store.find(&credential.digest).await?;
        self.judge(found, credential.kind)
    }

    fn judge(&self, found: Option<Found>, kind: CredentialKind) -> Result<Identity, Refused> {
        let Found { credential, session } = found.ok_or(Refused::Unknown(kind))?;
        let now = self.clock.now();
        if credential.is_over(now) {
            return Err(Refused::Expired(kind));
        }
        let session = session.filter(|session| !session.is_over(now));
        match (session, kind) {
            (Some(session), _) => Ok(Identity { credential, session }),
            (None, CredentialKind::Token) => Err(Refused::Dormant),
            (None, CredentialKind::Cookie) => Err(Refused::Expired(kind)),
        }
    }
}

fn presented(headers: &HeaderMap) -> Result<(Digest, CredentialKind), Refused> {
    match bearer::presented(headers) {
        Presented::Token(token) => {
            let digest = token_digest(&token).ok_or(Refused::Unknown(CredentialKind::Token))?;
            Ok((digest, CredentialKind::Token))
        }
        Presented::Unusable => Err(Refused::Unknown(CredentialKind::Token)),
        Presented::Twice => Err(Refused::Twice),
        Presented::Nothing => match cookie::presented(headers, cookie::SESSION) {
            Presented::Token(value) => {
                let digest = cookie_digest(&value).ok_or(Refused::Unknown(CredentialKind::Cookie))?;
                Ok((digest, CredentialKind::Cookie))
            }
            Presented::Nothing => Err(Refused::NotPresented),
            Presented::Unusable | Presented::Twice => Err(Refused::Unknown(CredentialKind::Cookie)),
        },
    }
}

fn name(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Cookie => "session cookie",
        CredentialKind::Token => "token",
    }
}
