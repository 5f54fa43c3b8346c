//! The terminal of Kubernetes Dashboard: a session is asked for with the bearer, and taken up by a SockJS connection that
//! knows its id. The frames are SockJS' own: `o` opens, `a[…]` brings messages, each JSON in a string.
//!
//! The real one runs the program over SPDY; this one over WebSocket, with the same bearer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Program;
use super::upstream::Upstream;
use crate::serve::{Body, full};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What was asked for and not yet taken up: path and bearer by id.
#[derive(Default)]
pub(super) struct Terminals(Mutex<HashMap<String, (String, String)>>);

impl Terminals {
    /// Keeps the path and the bearer for a connection that will come; its id.
    pub(super) fn prepare(&self, path: String, bearer: String) -> String {
        let id = crate::apiserver::uid();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), (path, bearer));
        id
    }

    fn take(&self, id: &str) -> Option<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    pub(super) fn answer(
        &self,
        program: &Program,
        parts: &[&str],
        mut request: Request<Incoming>,
    ) -> anyhow::Result<Response<Body>> {
        if parts == ["info"] {
            let info = json!({ "websocket": true, "origins": ["*:*"], "cookie_needed": false, "entropy": 1 });
            return Ok(super::json(StatusCode::OK, &info));
        }
        let id = request.uri().query().unwrap_or_default().to_owned();
        let (Some(key), Some((path, bearer))) = (request.headers().get(SEC_WEBSOCKET_KEY), self.take(&id))
        else {
            return Ok(super::json(StatusCode::NOT_FOUND, &json!({})));
        };
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
        let (upgrade, upstream) = (hyper::upgrade::on(&mut request), program.upstream()?.clone());
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let page = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            let _gone = converse(page, &upstream, &path, &bearer).await;
        });
        Ok(response.body(full(""))?)
    }
}

/// Passes on what is typed and what the program says, until one of them ends.
async fn converse(mut page: Socket, upstream: &Upstream, path: &str, bearer: &str) -> anyhow::Result<()> {
    page.send(Message::text("o")).await?;
    let mut shell = execute(upstream, path, bearer).await?;
    loop {
        tokio::select! {
            typed = page.next() => match typed {
                Some(Ok(Message::Text(text))) => {
                    for input in inputs(&text)? {
                        let message = [b"\0", input.as_bytes()].concat();
                        shell.send(Message::binary(message)).await?;
                    }
                }
                Some(Ok(message)) if !message.is_close() => {}
                _ => break,
            },
            said = shell.next() => match said {
                Some(Ok(Message::Binary(message))) if message.first() == Some(&1) && message.len() > 1 => {
                    let data = String::from_utf8_lossy(message.get(1..).unwrap_or_default());
                    let frame = json!([json!({ "Op": "stdout", "Data": data }).to_string()]);
                    page.send(Message::text(format!("a{frame}"))).await?;
                }
                Some(Ok(message)) if !message.is_close() => {}
                _ => break,
            },
        }
    }
    let _gone = shell.close(None).await;
    Ok(page.close(None).await?)
}

/// The keystrokes in a frame of the page's.
fn inputs(frame: &str) -> anyhow::Result<Vec<String>> {
    let messages: Vec<String> = serde_json::from_str(frame)?;
    let messages = messages.iter().map(|text| serde_json::from_str::<Value>(text));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let stdin = messages.iter().filter(|message| message["Op"] == "stdin");
    Ok(stdin.filter_map(|message| message["Data"].as_str().map(str::to_owned)).collect())
}

async fn execute(upstream: &Upstream, path: &str, bearer: &str) -> anyhow::Result<Socket> {
    let request = Request::get(path)
        .header(AUTHORIZATION, format!("Bearer {bearer}"))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_KEY, generate_key())
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_PROTOCOL, "v4.channel.k8s.io");
    let response = upstream.send(request.body(Empty::<bytes::Bytes>::new())?).await?;
    anyhow::ensure!(response.status() == StatusCode::SWITCHING_PROTOCOLS, "{}", response.status());
    let upgraded = hyper::upgrade::on(response).await.context("the tunnel")?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}
