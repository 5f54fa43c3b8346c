//! Kubernetes' channels over WebSocket: in each binary message, the first byte names the channel.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::status::Failure;
use super::tunnel::switching;
use crate::serve::Body;

/// What is spoken. In version 5, a message on channel 255 closes the channel that it names.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const ERROR: u8 = 3;
const CLOSE: u8 = 255;

/// The stream has ended, in order or not.
#[derive(Debug)]
pub(crate) struct Gone;

impl From<Error> for Gone {
    fn from(_: Error) -> Self {
        Self
    }
}

/// The answer that opens the stream.
pub(crate) fn handshake(headers: &HeaderMap) -> Result<Response<Body>, Failure> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        return Err(Failure::bad_request("unable to upgrade: this server speaks WebSocket, not SPDY/3.1"));
    }
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err(Failure::bad_request("Upgrade request required"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Failure::bad_request("unable to upgrade: missing Sec-WebSocket-Key"))?;
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
    let agreed = offered.find_map(|own| PROTOCOLS.iter().find(|known| **known == own));
    let agreed = agreed
        .ok_or_else(|| Failure::bad_request("unable to upgrade: no subprotocol of the offered is spoken"))?;

    let mut response = switching(HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(agreed));
    Ok(response)
}

/// The server's side of an open stream.
pub(crate) struct Channels {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    is_stdin_open: bool,
    is_tty: bool,
}

impl Channels {
    pub(crate) async fn new(tunnel: TokioIo<Upgraded>, has_stdin: bool, is_tty: bool) -> Self {
        let socket = WebSocketStream::from_raw_socket(tunnel, Role::Server, None).await;
        Self { socket, is_stdin_open: has_stdin, is_tty }
    }

    /// What comes on standard input; nothing once it is closed. Resizes are read and forgotten.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        while self.is_stdin_open {
            let Message::Binary(message) = self.receive().await? else { continue };
            match message.first() {
                Some(&STDIN) => return Ok(Some(message.slice(1..))),
                Some(&CLOSE) if message.get(1) == Some(&STDIN) => self.is_stdin_open = false,
                _ => {}
            }
        }
        Ok(None)
    }

    /// Waits until the caller leaves; what it still says is not heard.
    pub(crate) async fn left(&mut self) -> Gone {
        loop {
            if let Err(gone) = self.receive().await {
                return gone;
            }
        }
    }

    async fn receive(&mut self) -> Result<Message, Gone> {
        match self.socket.next().await {
            Some(Ok(Message::Close(_))) | None => Err(Gone),
            Some(message) => Ok(message?),
        }
    }

    /// Sends to a channel. A terminal has one output, and begins its lines on the left.
    pub(crate) async fn write(&mut self, channel: u8, content: &[u8]) -> Result<(), Gone> {
        let is_shown = self.is_tty && matches!(channel, STDOUT | STDERR);
        let mut message = Vec::with_capacity(content.len() + 1);
        message.push(if is_shown { STDOUT } else { channel });
        if is_shown {
            for byte in content {
                if *byte == b'\n' {
                    message.push(b'\r');
                }
                message.push(*byte);
            }
        } else {
            message.extend_from_slice(content);
        }
        Ok(self.socket.send(Message::binary(message)).await?)
    }

    /// Says how it ended and closes the stream in order.
    pub(crate) async fn finish(mut self, status: &[u8]) -> Result<(), Gone> {
        self.write(ERROR, status).await?;
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.close(Some(frame)).await?;
        while self.socket.next().await.is_some_and(|message| message.is_ok()) {}
        self.socket.get_mut().shutdown().await.map_err(|_| Gone)
    }
}
