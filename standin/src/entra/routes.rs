//! Which endpoint a request is for; counting, holding and failing come before its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::errors::{Refusal, Telling};
use super::faults::{self, Endpoint, Outcome};
use super::form::Form;
use super::record::TokenCall;
use super::state::{Shared, State};
use super::{authorize, discovery, logout, page, token};
use crate::serve::{Body, full};

/// A place below the origin. Those of the tenant carry its name as the path has it.
#[derive(Clone, Copy)]
enum Route<'a> {
    DiscoveryV2(&'a str),
    DiscoveryV1(&'a str),
    KeysV2(&'a str),
    KeysV1(&'a str),
    Authorize(&'a str),
    /// The chooser's form.
    Choose(&'a str),
    Token(&'a str),
    Logout(&'a str),
    ClusterDiscovery,
    ClusterKeys,
    Nowhere,
}

/// Answers one request.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let route = Route::of(parts.uri.path());
    let mut refuse = None;
    let mut looping = false;
    if let Some(endpoint) = route.endpoint(&body) {
        let gate = {
            let mut state = shared.lock();
            looping = note(&shared, &mut state, endpoint, &parts, &body);
            state.faults.gate(endpoint)
        };
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let fault = shared.lock().faults.take(endpoint);
        match faults::play(fault).await? {
            Outcome::Answer(answer) => return Ok(answer),
            Outcome::Refuse(code) => refuse = Some(Refusal::scripted(code)),
            Outcome::Proceed => {}
        }
    }
    if looping {
        refuse = Some(Refusal::new(50_196, "The client repeats the same request in a loop; it was stopped."));
    }
    dispatch(&shared, route, &parts, &body, refuse)
}

fn dispatch(
    shared: &Shared,
    route: Route<'_>,
    parts: &Parts,
    body: &Bytes,
    refuse: Option<Refusal>,
) -> anyhow::Result<Response<Body>> {
    if let Route::Token(tenant) = route {
        return token::answer(shared, tenant, parts, body, refuse);
    }
    if let (Route::Authorize(_), Some(refusal)) = (route, &refuse) {
        return authorize::refused(shared, parts, refusal);
    }
    if let Some(refusal) = refuse.or_else(|| route.tenant().and_then(|name| unknown_tenant(shared, name))) {
        let telling = telling(shared, &shared.lock(), &parts.headers);
        return match route {
            Route::Authorize(_) | Route::Choose(_) | Route::Logout(_) => {
                page::refusal(&refusal, &telling, None)
            }
            _ => json(refusal.status(), &refusal.json(&telling)),
        };
    }
    match route {
        Route::DiscoveryV2(_) => discovery::v2(shared),
        Route::DiscoveryV1(_) => discovery::v1(shared),
        Route::KeysV2(_) => {
            let keys = shared.lock().keys.jwks(Some(&shared.issuer()));
            discovery::cacheable(&keys)
        }
        Route::KeysV1(_) => {
            let keys = shared.lock().keys.jwks(None);
            discovery::cacheable(&keys)
        }
        Route::Authorize(_) => authorize::ask(shared, parts),
        Route::Choose(_) if parts.method == Method::POST => authorize::chosen(shared, parts, body),
        Route::Logout(_) => logout::sign_out(shared, parts),
        Route::ClusterDiscovery => discovery::cluster(shared),
        Route::ClusterKeys => discovery::cluster_keys(shared),
        _ => Ok(Response::builder().status(404).body(full("there is nothing here\n"))?),
    }
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["cluster", ".well-known", "openid-configuration"] => Self::ClusterDiscovery,
            ["cluster", "openid", "v1", "jwks"] => Self::ClusterKeys,
            [tenant, "v2.0", ".well-known", "openid-configuration"] => Self::DiscoveryV2(tenant),
            [tenant, ".well-known", "openid-configuration"] => Self::DiscoveryV1(tenant),
            [tenant, "discovery", "v2.0", "keys"] => Self::KeysV2(tenant),
            [tenant, "discovery", "keys"] => Self::KeysV1(tenant),
            [tenant, "oauth2", "v2.0", "authorize"] => Self::Authorize(tenant),
            [tenant, "oauth2", "v2.0", "token"] => Self::Token(tenant),
            [tenant, "oauth2", "v2.0", "logout"] => Self::Logout(tenant),
            [tenant, "login"] => Self::Choose(tenant),
            _ => Self::Nowhere,
        }
    }

    fn endpoint(self, body: &[u8]) -> Option<Endpoint> {
        match self {
            Self::DiscoveryV1(_) | Self::DiscoveryV2(_) => Some(Endpoint::Discovery),
            Self::KeysV1(_) | Self::KeysV2(_) => Some(Endpoint::Keys),
            Self::Authorize(_) => Some(Endpoint::Authorize),
            Self::Token(_) if Form::parse(body).get("grant_type") == Some("refresh_token") => {
                Some(Endpoint::TokenRefresh)
            }
            Self::Token(_) => Some(Endpoint::TokenCode),
            _ => None,
        }
    }

    fn tenant(self) -> Option<&'a str> {
        match self {
            Self::DiscoveryV2(tenant)
            | Self::DiscoveryV1(tenant)
            | Self::KeysV2(tenant)
            | Self::KeysV1(tenant)
            | Self::Authorize(tenant)
            | Self::Choose(tenant)
            | Self::Token(tenant)
            | Self::Logout(tenant) => Some(tenant),
            Self::ClusterDiscovery | Self::ClusterKeys | Self::Nowhere => None,
        }
    }
}

/// Writes the request into the record; true when it is one refresh too many.
fn note(shared: &Shared, state: &mut State, endpoint: Endpoint, parts: &Parts, body: &[u8]) -> bool {
    state.record.count(endpoint);
    match endpoint {
        Endpoint::Authorize => {
            let form = Form::parse(parts.uri.query().unwrap_or_default().as_bytes());
            state.record.authorize_call(&form);
            false
        }
        Endpoint::TokenCode | Endpoint::TokenRefresh => {
            note_token_call(shared, state, parts, &Form::parse(body))
        }
        Endpoint::Discovery | Endpoint::Keys => false,
    }
}

fn note_token_call(shared: &Shared, state: &mut State, parts: &Parts, form: &Form) -> bool {
    for secret in ["code", "refresh_token", "client_assertion", "code_verifier", "client_secret"] {
        if let Some(secret) = form.get(secret) {
            state.record.secret(secret);
        }
    }
    let of_code = form.get("code").and_then(|code| state.codes.get(code)).map(|code| &code.sign_in);
    let of_refresh = form.get("refresh_token").and_then(|token| state.refresh_tokens.get(token));
    let user = of_refresh.map(|refresh| &refresh.sign_in).or(of_code).map(|sign_in| sign_in.user.clone());
    let field = |name: &str| form.get(name).map(str::to_owned);
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let call = TokenCall {
        grant_type: field("grant_type").unwrap_or_default(),
        scope: field("scope"),
        user: user.clone(),
        fields: form.pairs().iter().map(|(name, _)| name.clone()).collect(),
        correlation_id: header("client-request-id"),
        lib_capability: header("x-ms-lib-capability"),
        claims: field("claims"),
        headers: parts.headers.keys().map(|name| name.as_str().to_owned()).collect(),
        at: shared.time.now(),
    };
    let is_refresh = call.grant_type == "refresh_token";
    state.record.token_call(call);
    let scope = form.get("scope").unwrap_or_default();
    is_refresh && user.is_some_and(|user| state.record.loops(&user, scope, shared.time.now()))
}

/// 90002 where the path names another tenant than ours.
pub(crate) fn unknown_tenant(shared: &Shared, name: &str) -> Option<Refusal> {
    let known = name.eq_ignore_ascii_case(shared.tenant());
    (!known)
        .then(|| Refusal::new(90_002, format!("There is no tenant '{name}'; check its id and the cloud.")))
}

/// The ids and the time for one answer; the client's own correlation id where it sent a GUID.
pub(crate) fn telling(shared: &Shared, state: &State, headers: &HeaderMap) -> Telling {
    let is_guid =
        |text: &&str| text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let correlation = headers.get("client-request-id").and_then(|value| value.to_str().ok()).filter(is_guid);
    Telling::new(shared.origin(), state.error_style, shared.time.now(), correlation)
}

pub(crate) fn json(status: u16, body: &Value) -> anyhow::Result<Response<Body>> {
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("cache-control", "no-store, no-cache")
        .body(full(body.to_string()))?)
}
