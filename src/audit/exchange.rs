//! What is told of an exchange: plain values, borrowed from those who know them.

use std::net::IpAddr;

use http::{HeaderMap, Uri};
use jiff::Timestamp;

use super::user::{CredentialText, SessionText};

/// What is known of an exchange when it is recorded first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    /// The id under which the API server records it, too.
    pub(crate) audit_id: &'a str,
    /// The Kubernetes verb; of what names no resource, the method in lower case.
    pub(crate) verb: &'a str,
    /// Path and query as they came. Nothing where no request asked for it.
    pub(crate) uri: Option<&'a Uri>,
    /// It is for a page of ours, whose queries hold codes and states of sign-ins: only the path is told.
    pub(crate) is_page: bool,
    /// As they came: the user agent and whom to act as are taken from them.
    pub(crate) headers: &'a HeaderMap,
    /// Nothing where nobody was identified.
    pub(crate) user: Option<User<'a>>,
    /// Nothing where the path names no resource.
    pub(crate) object: Option<Object<'a>>,
    /// The client's address, after those of which it is said that they are behind it.
    pub(crate) source_ips: &'a [IpAddr],
    /// When its head was there.
    pub(crate) received: Timestamp,
}

/// Who does it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    pub(crate) session: &'a SessionText,
    /// Nothing where none was presented.
    pub(crate) credential: Option<&'a CredentialText>,
}

/// What it is done to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Object<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome<'a> {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Of a refusal of ours, the reason as in `Entrada-Reason`.
    pub(crate) reason: Option<&'a str>,
    /// Of a refusal of ours, `reason` and `message` of its `metav1.Status`.
    pub(crate) told: Option<(&'a str, &'a str)>,
    /// Why a session or token was changed, where it was not its user who asked for it there and then.
    pub(crate) cause: Option<&'a str>,
}

/// What somebody does with a session or a token of theirs. Ids are names of objects in the API group `entrada.io`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act<'a> {
    /// A session began; the id is missing where it was refused.
    SignIn(&'a str),
    /// The browser's session was signed out.
    SignOut(&'a str),
    /// All sessions and tokens of the user were ended.
    SignOutEverywhere,
    /// Entra signed the user out in the browser.
    SignOutByEntra,
    /// A session was ended by something else than a sign-out, for this reason.
    SessionEnded(&'a str, &'static str),
    /// `POST /refresh`: a fresh AKS token for the session.
    AccessRenewed(&'a str),
    /// A proxy token was made.
    TokenMade(&'a str),
    /// A proxy token was made in the place of one that ends.
    TokenRenewed(&'a str),
    /// A computer may fetch a token; the id is that of the ticket which it exchanges for one.
    HandoverAllowed(&'a str),
    /// A computer may not.
    HandoverRefused,
    /// A browser of the session was let into a mounted dashboard; the id is that of its cookie there.
    MountEntered(&'a str),
    /// A browser's cookie for a mounted dashboard was revoked.
    MountLeft(&'a str),
    /// A dormant token was armed.
    TokenArmed(&'a str),
    /// A token was revoked.
    TokenRevoked(&'a str),
}

impl<'a> Act<'a> {
    /// Whether it gives access. What takes access away is done also where it cannot be recorded.
    #[must_use]
    pub(crate) fn gives(&self) -> bool {
        matches!(
            self,
            Self::SignIn(_)
                | Self::AccessRenewed(_)
                | Self::TokenMade(_)
                | Self::TokenRenewed(_)
                | Self::TokenArmed(_)
                | Self::HandoverAllowed(_)
                | Self::MountEntered(_)
        )
    }

    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::SignIn(_)
            | Self::TokenMade(_)
            | Self::TokenRenewed(_)
            | Self::HandoverAllowed(_)
            | Self::MountEntered(_) => "create",
            Self::SignOut(_)
            | Self::SessionEnded(..)
            | Self::TokenRevoked(_)
            | Self::HandoverRefused
            | Self::MountLeft(_) => "delete",
            Self::SignOutEverywhere | Self::SignOutByEntra => "deletecollection",
            Self::AccessRenewed(_) | Self::TokenArmed(_) => "update",
        }
    }

    pub(super) fn object(&self) -> Object<'a> {
        let (resource, subresource, name) = match *self {
            Self::SignIn(id) | Self::SignOut(id) | Self::SessionEnded(id, _) => ("sessions", "", id),
            Self::SignOutEverywhere | Self::SignOutByEntra => ("sessions", "", ""),
            Self::AccessRenewed(id) => ("sessions", "access", id),
            Self::TokenMade(id) | Self::TokenRenewed(id) | Self::TokenRevoked(id) => ("tokens", "", id),
            Self::HandoverAllowed(id) => ("handovers", "", id),
            Self::HandoverRefused => ("handovers", "", ""),
            Self::MountEntered(id) | Self::MountLeft(id) => ("mounts", "", id),
            Self::TokenArmed(id) => ("tokens", "arm", id),
        };
        Object { group: "entrada.io", version: "v1", resource, subresource, namespace: "", name }
    }

    pub(super) fn cause(&self) -> Option<&'static str> {
        match self {
            Self::SignOut(_) => Some("sign_out"),
            Self::SignOutEverywhere => Some("sign_out_everywhere"),
            Self::SignOutByEntra => Some("sign_out_by_entra"),
            Self::SessionEnded(_, cause) => Some(cause),
            Self::TokenRenewed(_) => Some("renewal"),
            _ => None,
        }
    }
}

impl<'a> Outcome<'a> {
    /// An answer with this status, of the API server or of a page.
    #[must_use]
    pub(crate) fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// The user's rate limit was used up.
    pub(super) fn is_over_rate(&self) -> bool {
        self.reason == Some(super::RATE_LIMITED)
    }

    pub(super) fn caused_by(self, cause: Option<&'a str>) -> Self {
        Self { cause, ..self }
    }
}

impl Exchange<'_> {
    pub(super) fn path(&self) -> &str {
        self.uri.map_or("", Uri::path)
    }

    /// As the API server tells it: `BasicLongRunningRequestCheck` with its own lists.
    pub(super) fn is_long_running(&self) -> bool {
        matches!(self.verb, "watch" | "proxy")
            || match &self.object {
                Some(object) => {
                    matches!(object.subresource, "attach" | "exec" | "proxy" | "log" | "portforward")
                }
                None => self.path().starts_with("/debug/pprof/"),
            }
    }
}
