//! What can go wrong while a token is handed over, as a [`Problem`]: to a program as OAuth's JSON (RFC 6749 section 5.2, RFC
//! 8628 section 3.5), to a person as a page.

use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::json;

use super::causes::SHORTLY;
use super::{Problem, Side, json_response};
use crate::http::body::Body;

/// Ten wrong codes within five minutes: the first of them is forgotten no later than this.
const WRONG_CODES_FORGOTTEN_AFTER: u32 = 300;

/// The errors of OAuth that we tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OAuthError {
    InvalidRequest,
    InvalidGrant,
    UnsupportedGrantType,
    SlowDown,
    ExpiredToken,
    AccessDenied,
    TemporarilyUnavailable,
    /// RFC 6750 section 3.1.
    InvalidToken,
}

impl OAuthError {
    fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidGrant => "invalid_grant",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::AccessDenied => "access_denied",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::InvalidToken => "invalid_token",
        }
    }
}

impl Problem {
    /// An OAuth error.
    #[must_use]
    pub(crate) fn oauth(error: OAuthError, sentence: impl Into<String>) -> Self {
        Self {
            oauth: Some(error),
            ..Self::new(StatusCode::BAD_REQUEST, error.name(), Side::Client, sentence)
        }
    }

    /// The same, told as OAuth's JSON.
    #[must_use]
    pub(crate) fn for_oauth(self) -> Self {
        let error = match self.status {
            StatusCode::UNAUTHORIZED => OAuthError::InvalidToken,
            StatusCode::TOO_MANY_REQUESTS => OAuthError::SlowDown,
            status if status.is_server_error() => OAuthError::TemporarilyUnavailable,
            _ => OAuthError::InvalidRequest,
        };
        Self { oauth: self.oauth.or(Some(error)), ..self }
    }

    pub(super) fn oauth_error(&self, error: OAuthError) -> Response<Body> {
        let object = json!({ "error": error.name(), "error_description": &*self.sentence });
        let mut response = json_response(self.status, &object);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// A way of handing tokens over is turned off.
    #[must_use]
    pub(crate) fn turned_off(reason: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, reason, Side::Client, sentence)
    }

    /// The same, to a program.
    #[must_use]
    pub(crate) fn turned_off_for_oauth(self) -> Self {
        Self { oauth: Some(OAuthError::UnsupportedGrantType), ..self }
    }

    /// What a person's browser brought from their computer is no request of ours.
    #[must_use]
    pub(crate) fn bad_handover(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_handover", Side::Client, sentence)
    }

    /// Too many computers wait for their persons.
    #[must_use]
    pub(crate) fn too_many_devices() -> Self {
        let sentence = "Too many computers wait for somebody to type their code. Try again in a moment.";
        Self {
            retry_after_seconds: Some(SHORTLY),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_device_codes", Side::Us, sentence)
        }
    }

    /// Too many wrong codes were typed.
    #[must_use]
    pub(crate) fn too_many_wrong_codes() -> Self {
        let sentence = "Too many wrong codes. Wait five minutes, then let the computer show you a new one.";
        Self {
            retry_after_seconds: Some(WRONG_CODES_FORGOTTEN_AFTER),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_codes", Side::Client, sentence)
        }
    }

    /// A page that takes a token only.
    #[must_use]
    pub(crate) fn token_required() -> Self {
        let sentence = "This is done with a token, by the program that has it. In a browser use the portal.";
        Self::new(StatusCode::FORBIDDEN, "token_required", Side::Client, sentence)
    }

    /// A token that ends when it ends.
    #[must_use]
    pub(crate) fn not_renewable() -> Self {
        let sentence =
            "This token is not renewed: it was not made by entrada login. Make a new one on the portal.";
        Self::new(StatusCode::FORBIDDEN, "not_renewable", Side::Client, sentence)
    }
}
