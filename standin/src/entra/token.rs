//! `POST /token`: the checks in the real one's order, then the answer.

use http::request::Parts;
use http::{HeaderMap, Method, Response};
use serde_json::Value;

use super::errors::Refusal;
use super::form::Form;
use super::state::{Shared, State};
use super::{federation, random, redeem, routes};
use crate::serve::{Body, full};

/// Answers a token request; `refuse` is a refusal that was decided before.
pub(crate) fn answer(
    shared: &Shared,
    tenant: &str,
    parts: &Parts,
    body: &[u8],
    refuse: Option<Refusal>,
) -> anyhow::Result<Response<Body>> {
    let mut state = shared.lock();
    let telling = routes::telling(shared, &state, &parts.headers);
    let result = match refuse {
        Some(refusal) => Err(refusal),
        None => checked(shared, &mut state, tenant, parts, &Form::parse(body)),
    };
    drop(state);
    let (status, code, body) = match result {
        Ok(body) => (200, 0, body),
        Err(refusal) => (refusal.status(), refusal.code, refusal.json(&telling)),
    };
    respond(&parts.headers, status, code, &body)
}

fn checked(
    shared: &Shared,
    state: &mut State,
    tenant: &str,
    parts: &Parts,
    form: &Form,
) -> Result<Value, Refusal> {
    if parts.method != Method::POST {
        return Err(Refusal::new(900_561, "This endpoint takes POST requests only."));
    }
    if !is_form(&parts.headers) {
        return Err(Refusal::new(
            900_144,
            "The request lacks the parameter 'grant_type': its body is no form.",
        ));
    }
    form.refuse_duplicates()?;
    if let Some(refusal) = routes::unknown_tenant(shared, tenant) {
        return Err(refusal);
    }
    check_client_id(shared, form.require("client_id")?)?;
    let grant = match form.require("grant_type")? {
        "authorization_code" => form.require("redirect_uri").and_then(|_| form.require("code"))?,
        "refresh_token" => form.require("refresh_token")?,
        "client_credentials" => "",
        other => {
            return Err(Refusal::new(70_003, format!("The app may not use the grant type '{other}'.")));
        }
    };
    let is_app = form.get("grant_type") == Some("client_credentials");
    if !is_app && !random::looks_like_grant(grant) {
        return Err(Refusal::new(9_002_313, "The request is malformed or not valid."));
    }
    if parts.headers.contains_key("origin") {
        let text = "A request with an Origin is for apps of the platform 'Single-Page Application' only.";
        return Err(Refusal::new(9_002_326, text));
    }
    federation::authenticate(shared, state, form)?;
    match form.get("grant_type") {
        Some("client_credentials") => redeem::client_credentials(shared, state, form),
        Some("refresh_token") => redeem::refresh_token(shared, state, form, grant),
        _ => redeem::code(shared, state, form, grant),
    }
}

/// 700016 for any app but ours.
pub(crate) fn check_client_id(shared: &Shared, client_id: &str) -> Result<(), Refusal> {
    if client_id.eq_ignore_ascii_case(&shared.options.client_id) {
        return Ok(());
    }
    let tenant = shared.tenant();
    Err(Refusal::new(700_016, format!("The tenant '{tenant}' has no app with the id '{client_id}'.")))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded")
}

fn respond(asked: &HeaderMap, status: u16, code: u32, body: &Value) -> anyhow::Result<Response<Body>> {
    let mut answer = Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("cache-control", "no-store, no-cache")
        .header("pragma", "no-cache")
        .header("expires", "-1")
        .header("x-content-type-options", "nosniff")
        .header("p3p", "CP=\"DSP CUR OTPi IND OTRi ONL FIN\"")
        .header("x-ms-request-id", random::guid())
        .header("x-ms-ests-server", "2.1.20000.1 - XXX ProdSlices")
        .header("x-ms-clitelem", format!("1,{code},0,,"))
        .header("x-ms-srs", "1.P")
        .header("set-cookie", format!("fpc={}; Path=/; Secure; HttpOnly; SameSite=None", random::token(24)))
        .header("set-cookie", "x-ms-gateway-slice=estsfd; path=/; secure; httponly")
        .header("set-cookie", "stsservicecookie=estsfd; path=/; secure; httponly");
    let wants_id = asked.get("return-client-request-id").is_some_and(|value| value == "true");
    if let (true, Some(id)) = (wants_id, asked.get("client-request-id")) {
        answer = answer.header("client-request-id", id);
    }
    if status == 429 {
        answer = answer.header("retry-after", "60");
    }
    Ok(answer.body(full(body.to_string()))?)
}
