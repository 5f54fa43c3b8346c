//! The handshake that opens a tunnel: WebSocket, or SPDY/3.1, which kubectl still speaks when told so and old ones
//! always.

use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::status::Failure;
use super::tunnel::switching;
use crate::serve::Body;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What the bytes behind the handshake are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    WebSocket,
    Spdy,
}

/// What is served over either.
pub(crate) struct Served {
    pub(crate) websocket: &'static [&'static str],
    pub(crate) spdy: &'static [&'static str],
}

/// Agrees on the first protocol of the caller's that is served; the answer that opens the tunnel.
pub(crate) fn agree(headers: &HeaderMap, served: &Served) -> Result<(Spoken, Response<Body>), Failure> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("websocket") {
        return Ok((Spoken::WebSocket, websocket(headers, served.websocket)?));
    }
    if upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        return Ok((Spoken::Spdy, spdy(headers, served.spdy)?));
    }
    Err(Failure::bad_request("Upgrade request required"))
}

fn websocket(headers: &HeaderMap, served: &'static [&'static str]) -> Result<Response<Body>, Failure> {
    let mut response = accepting(headers)?;
    let offered = offered(headers, &SEC_WEBSOCKET_PROTOCOL);
    let agreed = first_served(&offered, served)
        .ok_or_else(|| Failure::bad_request("unable to upgrade: no subprotocol of the offered is spoken"))?;
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(agreed));
    Ok(response)
}

/// A WebSocket for a watch, which speaks no subprotocol: the real server gives the one that was offered back, and
/// refuses two.
pub(crate) fn websocket_as_asked(headers: &HeaderMap) -> Result<Response<Body>, Failure> {
    let mut response = accepting(headers)?;
    match offered(headers, &SEC_WEBSOCKET_PROTOCOL).as_slice() {
        [] => {}
        [one] => {
            let one = HeaderValue::from_str(one).map_err(|error| Failure::bad_request(error.to_string()))?;
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, one);
        }
        _ => return Err(Failure::bad_request("bad protocol")),
    }
    Ok(response)
}

fn accepting(headers: &HeaderMap) -> Result<Response<Body>, Failure> {
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Failure::bad_request("unable to upgrade: missing Sec-WebSocket-Key"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    let mut response = switching(HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn spdy(headers: &HeaderMap, served: &'static [&'static str]) -> Result<Response<Body>, Failure> {
    let offered = offered(headers, &STREAM_PROTOCOL);
    let agreed = first_served(&offered, served).ok_or_else(|| {
        let (client, server) = (offered.join(" "), served.join(" "));
        let message =
            format!("unable to negotiate protocol: client supports [{client}], server accepts [{server}]");
        Failure { code: StatusCode::FORBIDDEN, ..Failure::bad_request(message) }
    })?;
    let mut response = switching(HeaderValue::from_static("SPDY/3.1"));
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(agreed));
    Ok(response)
}

/// Every value, in order, of a header that may be repeated or hold several.
fn offered<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

fn first_served(offered: &[&str], served: &'static [&'static str]) -> Option<&'static str> {
    offered.iter().find_map(|own| served.iter().find(|known| *known == own).copied())
}
