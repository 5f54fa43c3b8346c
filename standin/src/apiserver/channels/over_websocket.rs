//! Channels over WebSocket: in each binary message, the first byte names the channel.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{ERROR, Gone, STDERR, STDIN, STDOUT, Wanted};

/// In version 5, a message on this channel closes the channel that it names.
const CLOSE: u8 = 255;

impl From<Error> for Gone {
    fn from(_: Error) -> Self {
        Self
    }
}

/// The open socket.
pub(super) struct Socket {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    is_stdin_open: bool,
}

impl Socket {
    pub(super) async fn open(tunnel: TokioIo<Upgraded>, wanted: Wanted) -> Result<Self, Gone> {
        let socket = WebSocketStream::from_raw_socket(tunnel, Role::Server, None).await;
        let mut own = Self { socket, is_stdin_open: wanted.stdin };
        // The first writable channel gets an empty message as soon as the stream is open.
        let first = match (wanted.stdout, wanted.stderr) {
            (true, _) => STDOUT,
            (false, true) => STDERR,
            (false, false) => ERROR,
        };
        own.write(first, &[]).await?;
        Ok(own)
    }

    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
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

    pub(super) async fn left(&mut self) -> Gone {
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

    pub(super) async fn write(&mut self, channel: u8, content: &[u8]) -> Result<(), Gone> {
        let mut message = Vec::with_capacity(content.len() + 1);
        message.push(channel);
        message.extend_from_slice(content);
        Ok(self.socket.send(Message::binary(message)).await?)
    }

    pub(super) async fn finish(mut self) -> Result<(), Gone> {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.close(Some(frame)).await?;
        while self.socket.next().await.is_some_and(|message| message.is_ok()) {}
        self.socket.get_mut().shutdown().await.map_err(|_| Gone)
    }
}
