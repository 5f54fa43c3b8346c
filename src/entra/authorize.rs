//! The address to which a browser is sent to sign in, and the one where it signs out of Entra.

use openidconnect::{PkceCodeChallenge, PkceCodeVerifier};
use url::Url;

use super::{AKS_SERVER_APP_ID, Entra, NotReady};
use crate::secret::AttemptSecret;

/// The scopes of a plain sign-in: who the user is, and a refresh token. No resource, so nothing to consent to here.
const SIGN_IN_SCOPES: &str = "openid profile offline_access";

/// One sign-in attempt, as Entra needs to know it.
#[derive(Debug)]
pub(crate) struct AuthorizeRequest<'a> {
    /// Comes back with the answer.
    pub(crate) state: &'a AttemptSecret,
    /// Comes back inside the ID token.
    pub(crate) nonce: &'a AttemptSecret,
    /// Its SHA-256 goes along now, it itself with the code.
    pub(crate) verifier: &'a AttemptSecret,
    /// Names the AKS server already here, so that its policies are met interactively.
    pub(crate) step_up: bool,
    /// What the refused token request said must be met, as it came.
    pub(crate) claims: Option<&'a str>,
    /// Whom to expect.
    pub(crate) login_hint: Option<&'a str>,
    /// Makes Entra ask which account, although one is signed in there.
    pub(crate) select_account: bool,
}

impl Entra {
    /// Where to send the browser.
    ///
    /// # Errors
    /// While discovery has not succeeded.
    pub(crate) fn authorize_url(&self, request: &AuthorizeRequest<'_>) -> Result<Url, NotReady> {
        let mut url = self.provider()?.authorization_endpoint.clone();
        let verifier = PkceCodeVerifier::new(request.verifier.expose().to_owned());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let mut query = url.query_pairs_mut();
        query
            .append_pair("client_id", &self.config.client_id)
            .append_pair("response_type", "code")
            .append_pair("response_mode", "query")
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &scopes(request.step_up))
            .append_pair("state", request.state.expose())
            .append_pair("nonce", request.nonce.expose())
            .append_pair("code_challenge", challenge.as_str())
            .append_pair("code_challenge_method", "S256")
            .append_pair("client_info", "1");
        if let Some(claims) = request.claims {
            query.append_pair("claims", claims);
        }
        // Entra advises against a hint beside the account picker.
        if request.select_account {
            query.append_pair("prompt", "select_account");
        } else if let Some(hint) = request.login_hint {
            query.append_pair("login_hint", hint);
        }
        drop(query);
        Ok(url)
    }
}

impl Entra {
    /// Where a browser ends its sign-in with Entra itself and comes back to `back_to`, which must be registered;
    /// `None` while discovery names no such place.
    #[must_use]
    pub(crate) fn end_session_url(&self, back_to: &str, logout_hint: Option<&str>) -> Option<Url> {
        let mut url = self.provider().ok()?.end_session_endpoint.clone()?;
        url.query_pairs_mut().append_pair("post_logout_redirect_uri", back_to);
        if let Some(hint) = logout_hint {
            url.query_pairs_mut().append_pair("logout_hint", hint);
        }
        Some(url)
    }
}

/// The scopes of a token or authorization request, with or without the AKS server.
pub(super) fn scopes(with_aks: bool) -> String {
    if with_aks {
        format!("{AKS_SERVER_APP_ID}/.default {SIGN_IN_SCOPES}")
    } else {
        SIGN_IN_SCOPES.to_owned()
    }
}
