//! An authorization request, taken apart and checked.

use http::Response;
use serde_json::Value;

use super::super::errors::{Refusal, Telling};
use super::super::form::Form;
use super::super::scope::Scopes;
use super::super::session::{Challenge, SignIn};
use super::super::state::{Shared, State};
use super::super::token::check_client_id;
use super::super::users::User;
use crate::serve::{Body, full};

/// Where the answer goes. Whoever has one may redirect; all that is refused before stays on the tenant's page.
pub(crate) struct Target {
    pub(crate) redirect_uri: String,
    state: Option<String>,
    fragment: bool,
}

/// Whether the user may be asked, or must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Only when needed.
    Auto,
    /// `none`: never.
    Silent,
    /// `login`, `select_account`, `consent`: always.
    Always,
}

/// What the app wants.
pub(crate) struct Ask {
    pub(crate) scopes: Scopes,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) prompt: Prompt,
    pub(crate) login_hint: Option<String>,
    pub(crate) claims: Option<Value>,
    pub(crate) client_info: bool,
    /// Oldest sign-in that will do, in seconds.
    pub(crate) max_age: Option<i64>,
}

impl Target {
    pub(crate) fn parse(shared: &Shared, state: &State, form: &Form) -> Result<Self, Refusal> {
        form.refuse_duplicates()?;
        check_client_id(shared, form.require("client_id")?)?;
        let uri = form.require("redirect_uri")?;
        if !state.redirect_uris.iter().any(|known| known == uri) {
            let text = format!("The redirect URI '{uri}' of the request is not one of the app's.");
            return Err(Refusal::new(50_011, text));
        }
        Ok(Self {
            redirect_uri: uri.to_owned(),
            state: form.get("state").map(str::to_owned),
            fragment: form.get("response_mode") == Some("fragment"),
        })
    }

    /// The code's redirect. Ends in an empty fragment, so that the browser carries no other one along.
    pub(crate) fn success(
        &self,
        code: &str,
        sign_in: &SignIn,
        client_info_of: Option<&User>,
    ) -> anyhow::Result<Response<Body>> {
        let mut pairs = vec![("code", code.to_owned())];
        if let Some(user) = client_info_of {
            pairs.push(("client_info", user.client_info()));
        }
        pairs.extend(self.state.clone().map(|state| ("state", state)));
        pairs.push(("session_state", sign_in.sid.clone()));
        redirect(&self.url(&pairs))
    }

    pub(crate) fn error(&self, refusal: &Refusal, telling: &Telling) -> anyhow::Result<Response<Body>> {
        let mut pairs = refusal.redirect_pairs(telling);
        pairs.extend(refusal.claims.clone().map(|claims| ("claims", claims)));
        pairs.extend(self.state.clone().map(|state| ("state", state)));
        redirect(&self.url(&pairs))
    }

    pub(crate) fn cancelled(&self) -> anyhow::Result<Response<Body>> {
        redirect(&self.cancelled_url())
    }

    pub(crate) fn cancelled_url(&self) -> String {
        let mut pairs = vec![("error", "access_denied".to_owned()), ("error_subcode", "cancel".to_owned())];
        pairs.extend(self.state.clone().map(|state| ("state", state)));
        self.url(&pairs)
    }

    fn url(&self, pairs: &[(&str, String)]) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        if self.fragment {
            return format!("{}#{query}", self.redirect_uri);
        }
        let gap = if self.redirect_uri.contains('?') { '&' } else { '?' };
        format!("{}{gap}{query}#", self.redirect_uri)
    }
}

impl Ask {
    pub(crate) fn parse(form: &Form) -> Result<Self, Refusal> {
        match form.require("response_type")? {
            "code" => {}
            other => {
                return Err(Refusal::new(
                    70_005,
                    format!("The app may not use the response type '{other}'."),
                ));
            }
        }
        match form.get("response_mode") {
            None | Some("query" | "fragment") => {}
            Some(other) => {
                return Err(Refusal::new(90_023, format!("The stand-in has no response mode '{other}'.")));
            }
        }
        Ok(Self {
            scopes: Scopes::parse(form.require("scope")?),
            nonce: form.get("nonce").map(str::to_owned),
            challenge: challenge(form)?,
            prompt: prompt(form)?,
            login_hint: form.get("login_hint").map(str::to_owned),
            claims: claims(form)?,
            client_info: form.get("client_info") == Some("1"),
            max_age: form.get("max_age").and_then(|seconds| seconds.parse().ok()),
        })
    }
}

fn challenge(form: &Form) -> Result<Option<Challenge>, Refusal> {
    let malformed = |what: &str| Refusal::new(501_491, format!("The {what} is not valid."));
    let method = form.get("code_challenge_method");
    let Some(value) = form.get("code_challenge") else {
        return method.map_or(Ok(None), |_| Err(malformed("code_challenge_method without a code_challenge")));
    };
    let s256 = match method {
        Some("S256") => true,
        Some("plain") | None => false,
        Some(_) => return Err(malformed("code_challenge_method")),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if !(43..=128).contains(&value.len()) || !value.bytes().all(allowed) {
        return Err(malformed("code_challenge"));
    }
    Ok(Some(Challenge { value: value.to_owned(), s256 }))
}

fn prompt(form: &Form) -> Result<Prompt, Refusal> {
    match form.get("prompt") {
        None => Ok(Prompt::Auto),
        Some("none") => Ok(Prompt::Silent),
        Some("login" | "select_account" | "consent") => Ok(Prompt::Always),
        Some(other) => {
            Err(Refusal::new(90_023, format!("The value '{other}' of 'prompt' is not supported.")))
        }
    }
}

fn claims(form: &Form) -> Result<Option<Value>, Refusal> {
    let Some(text) = form.get("claims") else { return Ok(None) };
    match serde_json::from_str::<Value>(text) {
        Ok(claims) if claims.is_object() => Ok(Some(claims)),
        _ => Err(Refusal::new(90_023, "The parameter 'claims' is no JSON object.")),
    }
}

fn redirect(url: &str) -> anyhow::Result<Response<Body>> {
    Ok(Response::builder()
        .status(302)
        .header("location", url)
        .header("cache-control", "no-store, no-cache")
        .header("pragma", "no-cache")
        .body(full(""))?)
}
