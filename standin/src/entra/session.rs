//! Sign-ins and what was issued for them.

use jiff::Timestamp;

use super::scope::Scopes;

/// How and when somebody proved who they are.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    /// The user's name in the directory.
    pub(crate) user: String,
    /// `sid` of ID tokens and `session_state` of redirects.
    pub(crate) sid: String,
    pub(crate) auth_time: Timestamp,
    /// Whether a second factor was shown.
    pub(crate) mfa: bool,
}

/// A browser's sign-in at the tenant itself.
pub(crate) type Sso = SignIn;

/// The PKCE half that `/authorize` was given.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) value: String,
    pub(crate) s256: bool,
}

/// An authorization code: good once, for ten minutes.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) sign_in: SignIn,
    pub(crate) redirect_uri: String,
    pub(crate) scopes: Scopes,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) issued: Timestamp,
    pub(crate) used: bool,
}

/// A refresh token of one user and one client.
#[derive(Clone, Debug)]
pub(crate) struct Refresh {
    pub(crate) sign_in: SignIn,
    pub(crate) scopes: Scopes,
    pub(crate) issued: Timestamp,
    pub(crate) last_used: Timestamp,
    /// Strict rotation ended it.
    pub(crate) dead: bool,
}
