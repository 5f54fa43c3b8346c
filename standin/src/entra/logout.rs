//! `/logout`: a browser signs out at the tenant.

use http::Response;
use http::request::Parts;

use super::authorize::cookie;
use super::form::Form;
use super::page;
use super::state::{Shared, State};
use crate::serve::{Body, full};

/// `GET /logout`: ends the browser's sign-in; leads on only to a registered address.
pub(crate) fn sign_out(shared: &Shared, parts: &Parts) -> anyhow::Result<Response<Body>> {
    let form = Form::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let mut state = shared.lock();
    let ended = cookie::value(&parts.headers).and_then(|value| state.sso.remove(&value));
    let target = target(&state, &form)?;
    let frame = match (&state.frontchannel, ended) {
        (Some(url), Some(sign_in)) => Some(with_query(url, &[("sid", &sign_in.sid)])?),
        _ => None,
    };
    let mut answer = match (target, frame) {
        (Some(url), None) => Response::builder().status(302).header("location", url).body(full(""))?,
        (target, frame) => page::signed_out(frame.as_deref(), target.as_deref())?,
    };
    answer.headers_mut().append("set-cookie", cookie::removal()?);
    Ok(answer)
}

/// The registered address that the request names, with its `state`.
fn target(state: &State, form: &Form) -> anyhow::Result<Option<String>> {
    let uri = form.get("post_logout_redirect_uri");
    let Some(uri) = uri.filter(|uri| state.redirect_uris.iter().any(|known| known == uri)) else {
        return Ok(None);
    };
    match form.get("state") {
        Some(state) => Ok(Some(with_query(uri, &[("state", state)])?)),
        None => Ok(Some(uri.to_owned())),
    }
}

fn with_query(url: &str, pairs: &[(&str, &str)]) -> anyhow::Result<String> {
    let gap = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{gap}{}", serde_urlencoded::to_string(pairs)?))
}
