//! What `entrada doctor` asks of Entra: once, with the server's own client and the server's own checks, and with what
//! was seen told.

use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};
use jiff::Timestamp;

use super::fault::{code_in, number_after};
use super::http::{CallError, Reply};
use super::{AuthorizeRequest, Entra};
use crate::secret::AttemptSecret;

/// A look at the authority: its clock, and whether the discovery document and the keys can be used.
#[derive(Debug)]
pub(crate) struct Look {
    /// The `Date` of the answer, in whole seconds.
    pub(crate) date: Option<Timestamp>,
    /// Why they cannot be used.
    pub(crate) trouble: Option<Trouble>,
}

/// Why the authority cannot be used.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No answer.
    Call(CallError),
    /// An error of Entra's own, with its AADSTS number.
    Refused(u32),
    /// Something else than JSON, such as a gateway's page: its status and content type.
    NotJson(StatusCode, String),
    /// The document or the keys are not what this tenant's would be.
    Document(String),
}

/// What an authorization request that nobody stands behind was answered.
#[derive(Debug)]
pub(crate) enum Registration {
    /// A redirect to our own redirect URI, which Entra sends to none that is not registered.
    Registered,
    /// An error page with this AADSTS number.
    Refused(u32),
    /// A page that tells nothing, or no answer.
    Unclear(String),
}

impl Entra {
    /// Fetches discovery and keys, and keeps them for what is asked next.
    pub(crate) async fn look(&self) -> Look {
        let reply = match self.http.get(&self.discovery_url()).await {
            Ok(reply) => reply,
            Err(error) => return Look { date: None, trouble: Some(Trouble::Call(error)) },
        };
        let date = reply.date();
        let trouble = match code_in(&reply.body) {
            Some(code) => Some(Trouble::Refused(code)),
            None if !is_json(&reply) => {
                let kind = reply.header(CONTENT_TYPE).unwrap_or("nothing").to_owned();
                Some(Trouble::NotJson(reply.status, kind))
            }
            None => self.try_to_fetch().await.err().map(|error| Trouble::Document(error.to_string())),
        };
        Look { date, trouble }
    }

    /// Sends an authorization request as a browser would in which nobody is signed in, and which must not ask
    /// (`prompt=none`): Entra answers a registered redirect URI with a redirect, any other with a page.
    pub(crate) async fn look_for_redirect_uri(&self) -> Registration {
        let secret = AttemptSecret::new(crate::secret::random_base62(43));
        let request = AuthorizeRequest {
            state: &secret,
            nonce: &secret,
            verifier: &secret,
            step_up: false,
            claims: None,
            login_hint: None,
            select_account: false,
        };
        let mut url = match self.authorize_url(&request) {
            Ok(url) => url,
            Err(error) => return Registration::Unclear(error.to_string()),
        };
        url.query_pairs_mut().append_pair("prompt", "none");
        let reply = match self.http.get(url.as_str()).await {
            Ok(reply) => reply,
            Err(error) => return Registration::Unclear(error.to_string()),
        };
        let location = reply.header(LOCATION).unwrap_or_default();
        let is_ours = location.strip_prefix(&self.redirect_uri).is_some_and(|rest| rest.starts_with('?'));
        if reply.status.is_redirection() && is_ours {
            return Registration::Registered;
        }
        match number_after(&String::from_utf8_lossy(&reply.body), "AADSTS") {
            Some(code) => Registration::Refused(code),
            None => Registration::Unclear(format!("status {}", reply.status)),
        }
    }
}

fn is_json(reply: &Reply) -> bool {
    reply.status.is_success() && reply.header(CONTENT_TYPE).is_some_and(|kind| kind.contains("json"))
}
