//! The cookie by which a browser stays signed in at the tenant.

use http::{HeaderMap, HeaderValue};

const NAME: &str = "ESTSAUTHPERSISTENT";

/// The value that the browser sent.
pub(crate) fn value(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all("cookie").iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| value.to_owned())
}

/// Kept for 90 days, as the real one's when a user wants to stay signed in.
pub(crate) fn keeping(value: &str) -> anyhow::Result<HeaderValue> {
    let text = format!("{NAME}={value}; Max-Age=7776000; Path=/; Secure; HttpOnly; SameSite=None");
    Ok(HeaderValue::from_str(&text)?)
}

pub(crate) fn removal() -> anyhow::Result<HeaderValue> {
    let text = format!("{NAME}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=None");
    Ok(HeaderValue::from_str(&text)?)
}
