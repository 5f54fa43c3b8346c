//! Who is asking: a presented credential becomes an [`Identity`], or is refused.
//!
//! One credential decides, in this order: `Authorization: Bearer`, the bearer subprotocol of a WebSocket, the session
//! cookie. One that is presented and refused ends the matter; there is no fall-through to the next. On the host of a mounted
//! dashboard it is that host's own cookie, and nothing else.

pub(crate) mod cookie;

mod bearer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use thiserror::Error;
use tokio::time::Instant;

use self::bearer::Presented;
use crate::clock::{Clock, until};
use crate::secret::{BEARER_PREFIX, CredentialKey, cookie_key, token_key};
use crate::session::bearer::{self as dashboards, Claim};
use crate::session::{
    Credential, CredentialKind, Fate, Found, LastUse, Opener, Session, SessionStore, StoreError, Uses,
};

/// Evidence that a live credential of a live session was presented. Made here only.
#[derive(Debug)]
pub(crate) struct Identity {
    opener: Opener,
    last_use: Option<LastUse>,
    found_at: Instant,
    judged_at: Timestamp,
    was_known: bool,
}

/// Why nobody was identified.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refused {
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
pub(crate) enum Ends {
    /// The session, and with it all of its tokens.
    Session,
    /// The token alone.
    Token,
}

const WARNED_SHARE: u32 = 10;
const WARNED_AT_MOST: Duration = Duration::from_secs(3_600);

/// Looks credentials up.
#[derive(Clone, Debug)]
pub(crate) struct Authenticator {
    store: Arc<dyn SessionStore>,
    uses: Uses,
    clock: Clock,
}

impl Refused {
    /// The error for a request whose credential ended while it was served.
    #[must_use]
    pub(crate) fn ended(kind: CredentialKind, fate: Fate) -> Self {
        match fate {
            Fate::Dormant => Self::Dormant,
            Fate::Void => Self::Unknown(kind),
            Fate::Expired => Self::Expired(kind),
            Fate::Unknown => Self::Store(StoreError),
        }
    }

    /// What became of the credential; `None`: the store did not answer.
    #[must_use]
    pub(crate) fn fate(&self) -> Option<Fate> {
        match self {
            Self::Store(_) => None,
            Self::Dormant => Some(Fate::Dormant),
            Self::Expired(_) => Some(Fate::Expired),
            Self::NotPresented | Self::Twice | Self::Unknown(_) => Some(Fate::Void),
        }
    }
}

impl Identity {
    /// The credential that was presented.
    #[must_use]
    pub(crate) fn credential(&self) -> &Arc<Credential> {
        &self.opener.credential
    }

    /// The session that it opens.
    #[must_use]
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.opener.session
    }

    /// What asks the store for the session's grant.
    #[must_use]
    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// When it was looked up: an end that comes after this was not seen by that lookup.
    #[must_use]
    pub(crate) fn found_at(&self) -> Instant {
        self.found_at
    }

    /// Whether it was found in memory, without asking the store.
    #[must_use]
    pub(crate) fn was_known(&self) -> bool {
        self.was_known
    }

    /// Whether a browser's cookie was presented, for which browsers' dangers must be guarded against.
    #[must_use]
    pub(crate) fn is_cookie(&self) -> bool {
        matches!(self.credential().kind, CredentialKind::Cookie | CredentialKind::MountCookie)
    }

    /// Whether it is a mounted dashboard that calls: with a bearer that is good for the API alone.
    #[must_use]
    pub(crate) fn is_dashboard(&self) -> bool {
        self.credential().kind == CredentialKind::Bearer
    }

    /// When credential or session ends by itself, whichever is first.
    #[must_use]
    pub(crate) fn ends_at(&self) -> Timestamp {
        self.credential().expires_at.min(self.session().expires_at)
    }

    /// What ends soon, and in how long: in the last tenth of its life, at most in its last hour. Not a token that its program
    /// renews by itself: nobody need be told.
    #[must_use]
    pub(crate) fn ends_soon(&self) -> Option<(Ends, Duration)> {
        let (credential, session) = (self.credential(), self.session());
        let (what, from, to) = if credential.expires_at < session.expires_at {
            (Ends::Token, credential.created_at, credential.expires_at)
        } else {
            (Ends::Session, session.created_at, session.expires_at)
        };
        let left = until(self.judged_at, to);
        let is_renewed = what == Ends::Token && credential.renewable;
        (!is_renewed && left <= (until(from, to) / WARNED_SHARE).min(WARNED_AT_MOST)).then_some((what, left))
    }
}

impl Authenticator {
    /// Credentials are looked up in `store`; their uses are noted in `uses`.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn SessionStore>, uses: Uses, clock: Clock) -> Self {
        Self { store, uses, clock }
    }

    /// Identifies the caller by the one credential that decides.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Identity, Refused> {
        let Shown { key, kind, claim } = presented(headers)?;
        self.look_up(key, kind, claim.as_ref()).await
    }

    /// Identifies the browser on the host of the dashboard that is mounted at `origin`, by that host's own cookie. What
    /// `Authorization` holds there is the dashboard's, and no credential of ours.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn identify_at_mount(
        &self,
        origin: &str,
        headers: &HeaderMap,
    ) -> Result<Identity, Refused> {
        let Shown { key, .. } = presented_cookie(headers, CredentialKind::MountCookie)?;
        let identity = self.look_up(key, CredentialKind::MountCookie, None).await?;
        let is_for_it = identity.credential().is_for_mount(origin);
        is_for_it.then_some(identity).ok_or(Refused::Unknown(CredentialKind::MountCookie))
    }

    /// The session that the browser of this request has, or had until a sign-in superseded it: to be superseded by its next
    /// sign-in, or ended by its sign-out. A cookie that is refused everywhere else, because it is idle or superseded, still
    /// tells which session its browser leaves behind. `None`, too, where a bearer is the credential.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn of_browser(&self, headers: &HeaderMap) -> Result<Option<Opener>, StoreError> {
        match presented(headers) {
            Ok(Shown { key, kind: CredentialKind::Cookie, .. }) => self.store.of_browser(&key).await,
            _ => Ok(None),
        }
    }

    /// Whether a session that has just begun still stands. A store that does not answer is no reason to doubt it.
    pub(crate) async fn stands(&self, opener: &Opener) -> bool {
        match self.store.find(&opener.key).await {
            Ok(found) => {
                found.and_then(|found| found.session).is_some_and(|session| session.id == opener.session.id)
            }
            Err(StoreError) => true,
        }
    }

    /// Notes that the credential was used from `client`: once the request has passed the guards, because a request that
    /// another site's page forged must not keep a cookie from going idle.
    pub(crate) fn note_use(&self, identity: &Identity, client: IpAddr) {
        self.uses.note(identity.credential(), identity.last_use, identity.judged_at, client);
    }

    /// Whether a credential that was accepted once would still be accepted now: for streams, which outlive the lookup
    /// of their credential.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn confirm(&self, opener: &Opener) -> Result<Identity, Refused> {
        self.look_up(opener.key.clone(), opener.credential.kind, None).await
    }

    /// Identifies by a token that no request presents: the ticket that a hand-over's code stands for.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn identify_by(&self, ticket: &CredentialKey) -> Result<Identity, Refused> {
        self.look_up(ticket.clone(), CredentialKind::Token, None).await
    }

    /// The presented token, also one that opens nothing any more, so that it can be revoked. `None`: a cookie was presented.
    ///
    /// # Errors
    /// When there is none that is known.
    pub(crate) async fn presented_token(&self, headers: &HeaderMap) -> Result<Option<Found>, Refused> {
        let Shown { key, kind, .. } = presented(headers)?;
        if kind == CredentialKind::Cookie {
            return Ok(None);
        }
        let found = self.store.find(&key).await?.filter(|found| found.credential.kind == kind);
        found.map(Some).ok_or(Refused::Unknown(kind))
    }

    /// By what this process knows, if that accepts the credential. A refusal is always the store's: what is known here may
    /// have changed a moment ago at another replica, such as a dormant token's session or a cookie's last use.
    async fn look_up(
        &self,
        key: CredentialKey,
        kind: CredentialKind,
        claim: Option<&Claim>,
    ) -> Result<Identity, Refused> {
        let found_at = Instant::now();
        if let Some(known) = self.store.known(key.digest())
            && let Ok(identity) = self.judge(Some(known), &key, kind, claim, found_at)
        {
            return Ok(Identity { was_known: true, ..identity });
        }
        let found = self.store.find(&key).await?;
        self.judge(found, &key, kind, claim, found_at)
    }

    fn judge(
        &self,
        found: Option<Found>,
        key: &CredentialKey,
        kind: CredentialKind,
        claim: Option<&Claim>,
        found_at: Instant,
    ) -> Result<Identity, Refused> {
        let found = found.filter(|found| found.credential.kind == kind).ok_or(Refused::Unknown(kind))?;
        let Found { credential, session, mut last_use } = found;
        if credential.idle.is_some() {
            last_use = self.uses.last(key.digest(), last_use);
        }
        let now = self.clock.now();
        let proof = credential.mounted.as_ref().and_then(|mounted| mounted.proof.as_ref());
        // Of a bearer that a request presents. A stream that was opened with one lives as long as its record.
        let is_proven = claim.is_none_or(|claim| proof.is_some_and(|proof| proof.proves(claim, now)));
        if !is_proven || credential.is_over(last_use, now) {
            return Err(Refused::Expired(kind));
        }
        let session = session.filter(|session| !session.is_over(now));
        match (session, kind) {
            (Some(session), _) => {
                let opener = Opener { credential, session, key: key.clone() };
                Ok(Identity { opener, last_use, found_at, judged_at: now, was_known: false })
            }
            (None, CredentialKind::Token) => Err(Refused::Dormant),
            (None, _) => Err(Refused::Expired(kind)),
        }
    }
}

/// What a request presents.
struct Shown {
    key: CredentialKey,
    kind: CredentialKind,
    /// Of a dashboard's bearer.
    claim: Option<Claim>,
}

fn presented(headers: &HeaderMap) -> Result<Shown, Refused> {
    match bearer::presented(headers) {
        Presented::Token(token) if token.starts_with(BEARER_PREFIX) => {
            let kind = CredentialKind::Bearer;
            let (key, claim) = dashboards::presented(&token).ok_or(Refused::Unknown(kind))?;
            Ok(Shown { key, kind, claim: Some(claim) })
        }
        Presented::Token(token) => {
            let kind = CredentialKind::Token;
            let key = token_key(&token).ok_or(Refused::Unknown(kind))?;
            Ok(Shown { key, kind, claim: None })
        }
        Presented::Unusable => Err(Refused::Unknown(CredentialKind::Token)),
        Presented::Twice => Err(Refused::Twice),
        Presented::Nothing => presented_cookie(headers, CredentialKind::Cookie),
    }
}

/// The session cookie, on whichever host.
fn presented_cookie(headers: &HeaderMap, kind: CredentialKind) -> Result<Shown, Refused> {
    match cookie::presented(headers, cookie::SESSION) {
        Presented::Token(value) => {
            let key = cookie_key(&value).ok_or(Refused::Unknown(kind))?;
            Ok(Shown { key, kind, claim: None })
        }
        Presented::Nothing => Err(Refused::NotPresented),
        Presented::Unusable | Presented::Twice => Err(Refused::Unknown(kind)),
    }
}

fn name(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Cookie | CredentialKind::MountCookie => "session cookie",
        CredentialKind::Token => "token",
        CredentialKind::Bearer => "dashboard's bearer",
    }
}
