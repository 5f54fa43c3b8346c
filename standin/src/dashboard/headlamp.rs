//! Headlamp: a reverse proxy to the API server, and a page that talks through it.

use http::header::{AUTHORIZATION, COOKIE, HOST, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{Program, bearer, page};
use crate::serve::Body;

const CLUSTER: &str = "/clusters/main";
const COOKIE_NAME: &str = "headlamp-auth-main.0";

pub(super) async fn answer(program: &Program, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let path = request.uri().path();
    if path == "/config" {
        let cluster = json!({ "name": "main", "auth_type": "" });
        return Ok(super::json(StatusCode::OK, &json!({ "clusters": [cluster] })));
    }
    match path.strip_prefix(CLUSTER) {
        Some("/me") => Ok(me(request.headers())),
        Some("/set-token") if request.method() == Method::POST => set_token(request).await,
        Some(_) => hand_on(program, request).await,
        None => Ok(page(include_str!("headlamp.html"))),
    }
}

/// Reads the user's name out of the token, if that is a JWT. An opaque one is told to be invalid, and the page then asks
/// the API server who is signed in.
fn me(headers: &HeaderMap) -> Response<Body> {
    let token = bearer(headers).or_else(|| own_cookie(headers));
    let message = match token {
        None => "unauthorized",
        Some(token) if token.split('.').count() != 3 => "invalid token",
        Some(_) => return super::json(StatusCode::OK, &json!({ "username": "" })),
    };
    super::json(StatusCode::UNAUTHORIZED, &json!({ "message": message }))
}

/// A token that was pasted into the page is kept in a cookie of Headlamp's own; none takes it away.
async fn set_token(request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let body = request.into_body().collect().await?.to_bytes();
    let token = serde_json::from_slice::<Value>(&body)?["token"].as_str().map(str::to_owned);
    let rest = format!("Path={CLUSTER}; HttpOnly; Secure; SameSite=Strict");
    let cookie = token.map_or_else(
        || format!("{COOKIE_NAME}=; Max-Age=0; {rest}"),
        |token| format!("{COOKIE_NAME}={token}; {rest}"),
    );
    let mut response = super::json(StatusCode::OK, &json!({}));
    response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&cookie)?);
    Ok(response)
}

fn own_cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split("; ")).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value.to_owned())
}

/// Sends it to the API server with all its headers. A token in its own cookie counts before the header, and one in the
/// WebSocket's subprotocol becomes the header.
async fn hand_on(program: &Program, mut request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let upstream = program.upstream()?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = target.strip_prefix(CLUSTER).unwrap_or(target).parse::<Uri>()?;
    let headers = request.headers_mut();
    headers.insert("x-forwarded-host", HeaderValue::from_str(&upstream.authority())?);
    headers.remove(HOST);
    if headers.contains_key(UPGRADE) {
        headers.remove(USER_AGENT);
    } else {
        headers.insert(USER_AGENT, HeaderValue::from_static("Headlamp 0.40.0 (linux/amd64)"));
    }
    take_from_subprotocol(headers)?;
    if let Some(token) = own_cookie(headers) {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}"))?);
    }
    upstream.hand_on(request).await
}

fn take_from_subprotocol(headers: &mut HeaderMap) -> anyhow::Result<()> {
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let Some(offered) = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()) else {
        return Ok(());
    };
    let (tokens, rest): (Vec<_>, Vec<_>) =
        offered.split(',').map(str::trim).partition(|own| own.starts_with(PREFIX));
    let (token, rest) = (tokens.first().map(|token| token[PREFIX.len()..].to_owned()), rest.join(", "));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&rest)?);
    if let Some(token) = token.filter(|_| !headers.contains_key(AUTHORIZATION)) {
        use base64::Engine as _;
        let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token)?;
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(&[b"Bearer ", &token[..]].concat())?);
    }
    Ok(())
}
