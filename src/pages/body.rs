//! Bodies of requests to own pages: small, whole, JSON or form.

use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::problem::Problem;
use crate::session::MAX_TOKENS_PER_USER;

const TIMEOUT: Duration = Duration::from_secs(10);
const FORM: &str = "application/x-www-form-urlencoded";
const MAX_NAME_CHARS: usize = 64;

/// What a new token is asked to be; an empty body asks for the defaults.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenRequest {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    lifetime_seconds: Option<u64>,
    /// A form that stands for DELETE, which forms cannot send.
    #[serde(skip)]
    pub(super) deletes: bool,
}

/// Which tokens to arm; none named: all.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ArmRequest {
    #[serde(default)]
    pub(super) ids: Option<Vec<String>>,
}

impl TokenRequest {
    /// The name as it will be shown, or `default`.
    pub(super) fn name(&self, default: &str) -> Result<String, Problem> {
        let name = self.name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(default);
        if name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            return Err(Problem::bad_body(
                "A token's name has at most 64 characters and no control characters.",
            ));
        }
        Ok(name.to_owned())
    }

    /// The lifetime that was asked for, at most `max`.
    pub(super) fn lifetime(&self, max: Duration) -> Result<Duration, Problem> {
        let asked = self.lifetime_seconds.map_or(max, Duration::from_secs);
        if asked.is_zero() || asked > max {
            let max = max.as_secs();
            return Err(Problem::bad_body(format!("The lifetime must be from 1 to {max} seconds.")));
        }
        Ok(asked)
    }
}

pub(super) async fn token_request(
    headers: &HeaderMap,
    body: &mut Incoming,
    max_bytes: usize,
) -> Result<TokenRequest, Problem> {
    let bytes = read(body, max_bytes).await?;
    if bytes.is_empty() {
        return Ok(TokenRequest::default());
    }
    if is_json(headers) {
        return parse_json(&bytes);
    }
    let mut request = TokenRequest::default();
    for (name, value) in form(headers, &bytes)? {
        match name.as_str() {
            "name" => request.name = Some(value),
            "_method" => request.deletes = value == "delete",
            "lifetime_seconds" => {
                let seconds = value.trim().parse();
                request.lifetime_seconds =
                    Some(seconds.map_err(|_| Problem::bad_body("lifetime_seconds must be a whole number."))?);
            }
            _ => {}
        }
    }
    Ok(request)
}

pub(super) async fn arm_request(
    headers: &HeaderMap,
    body: &mut Incoming,
    max_bytes: usize,
) -> Result<ArmRequest, Problem> {
    let bytes = read(body, max_bytes).await?;
    if bytes.is_empty() {
        return Ok(ArmRequest::default());
    }
    let request = if is_json(headers) {
        parse_json(&bytes)?
    } else {
        let ids = form(headers, &bytes)?.into_iter().filter(|(name, _)| name == "ids").map(|(_, id)| id);
        ArmRequest { ids: Some(ids.collect()) }
    };
    if request.ids.as_ref().is_some_and(|ids| ids.len() > MAX_TOKENS_PER_USER) {
        return Err(Problem::bad_body(format!(
            "At most {MAX_TOKENS_PER_USER} tokens are armed at once: nobody has more. An empty body means all of them."
        )));
    }
    Ok(request)
}

/// Whether a form says that it stands for DELETE, which forms cannot send.
pub(super) async fn says_delete(
    headers: &HeaderMap,
    body: &mut Incoming,
    max_bytes: usize,
) -> Result<bool, Problem> {
    let bytes = read(body, max_bytes).await?;
    let says = form(headers, &bytes)?.iter().any(|(name, value)| name == "_method" && value == "delete");
    Ok(says)
}

/// A form's fields, each there once at most: RFC 6749 section 3.1.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// From a query or a form's body.
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// A field; `None` where it is missing, empty, or there twice.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        values.next().filter(|value| !value.is_empty() && values.next().is_none())
    }

    /// Whether it is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

pub(super) async fn fields(
    headers: &HeaderMap,
    body: &mut Incoming,
    max_bytes: usize,
) -> Result<Fields, Problem> {
    let bytes = read(body, max_bytes).await?;
    if !content_type_is(headers, FORM) {
        return Err(Problem::bad_body(format!("The body must be a form: Content-Type: {FORM}.")));
    }
    Ok(Fields::parse(&bytes))
}

/// The other browser that a sign-out names, by its cookie's id; `None`: this one.
pub(super) async fn other_browser(
    headers: &HeaderMap,
    body: &mut Incoming,
    max_bytes: usize,
) -> Result<Option<String>, Problem> {
    if !content_type_is(headers, FORM) {
        return Ok(None);
    }
    let bytes = read(body, max_bytes).await?;
    let found = form(headers, &bytes)?.into_iter().find(|(name, _)| name == "browser");
    Ok(found.map(|(_, id)| id))
}

async fn read(body: &mut Incoming, max_bytes: usize) -> Result<Vec<u8>, Problem> {
    let read = Limited::new(body, max_bytes).collect();
    match tokio::time::timeout(TIMEOUT, read).await {
        Err(_) => Err(Problem::body_too_slow()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large()),
        // Mostly a client that went away.
        Ok(Err(error)) => Err(Problem::body_unreadable(error.to_string())),
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
    }
}

fn parse_json<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Problem> {
    // A struct would also be read from an array, by position.
    let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(bytes);
    let parsed = object.and_then(|object| serde_json::from_value(object.into()));
    parsed.map_err(|_| Problem::bad_body("The body is not the JSON that this page takes."))
}

fn form(headers: &HeaderMap, bytes: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    if !content_type_is(headers, FORM) {
        return Err(Problem::bad_body(
            "The body must be JSON or a form, and its Content-Type must say which.",
        ));
    }
    Ok(url::form_urlencoded::parse(bytes).into_owned().collect())
}

fn is_json(headers: &HeaderMap) -> bool {
    content_type_is(headers, "application/json")
}

fn content_type_is(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}
