//! Kubernetes' channels: the standard streams of a process in a container, over WebSocket or SPDY.

mod over_spdy;
mod over_websocket;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use self::over_spdy::Streams;
use self::over_websocket::Socket;
use super::query::Query;
use super::status::Failure;
use super::upgrade::{Served, Spoken};

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const ERROR: u8 = 3;

/// Over SPDY the real server, too, knows no version 5, because there every stream can be closed anyway.
pub(crate) const SERVED: Served =
    Served { websocket: &["v5.channel.k8s.io", "v4.channel.k8s.io"], spdy: &["v4.channel.k8s.io"] };

/// The stream has ended, in order or not.
#[derive(Debug)]
pub(crate) struct Gone;

/// The channels that the caller asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Wanted {
    pub(crate) fn of(query: &Query) -> Result<Self, Failure> {
        let wants = |channel: &str| query.flag(channel);
        let own = Self {
            stdin: wants("stdin"),
            stdout: wants("stdout"),
            stderr: wants("stderr"),
            tty: wants("tty"),
        };
        if own.stdin || own.stdout || own.stderr {
            return Ok(own);
        }
        Err(Failure::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
    }
}

/// The server's side of the open channels.
pub(crate) struct Channels {
    wire: Wire,
    is_tty: bool,
}

enum Wire {
    Socket(Box<Socket>),
    Streams(Streams),
}

impl Channels {
    pub(crate) async fn open(
        spoken: Spoken,
        tunnel: TokioIo<Upgraded>,
        wanted: Wanted,
    ) -> Result<Self, Gone> {
        let wire = match spoken {
            Spoken::WebSocket => Wire::Socket(Box::new(Socket::open(tunnel, wanted).await?)),
            Spoken::Spdy => Wire::Streams(Streams::open(tunnel, wanted).await?),
        };
        Ok(Self { wire, is_tty: wanted.tty })
    }

    /// What comes on standard input; nothing once it is closed. Resizes are read and forgotten.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        match &mut self.wire {
            Wire::Socket(socket) => socket.read().await,
            Wire::Streams(streams) => streams.read().await,
        }
    }

    /// Waits until the caller leaves; what it still says is not heard.
    pub(crate) async fn left(&mut self) -> Gone {
        match &mut self.wire {
            Wire::Socket(socket) => socket.left().await,
            Wire::Streams(streams) => streams.left().await,
        }
    }

    /// Sends to a channel. A terminal has one output, and begins its lines on the left.
    pub(crate) async fn write(&mut self, channel: u8, content: &[u8]) -> Result<(), Gone> {
        if !self.is_tty || !matches!(channel, STDOUT | STDERR) {
            return self.send(channel, content).await;
        }
        let mut shown = Vec::with_capacity(content.len());
        for byte in content {
            if *byte == b'\n' {
                shown.push(b'\r');
            }
            shown.push(*byte);
        }
        self.send(STDOUT, &shown).await
    }

    async fn send(&mut self, channel: u8, content: &[u8]) -> Result<(), Gone> {
        match &mut self.wire {
            Wire::Socket(socket) => socket.write(channel, content).await,
            Wire::Streams(streams) => streams.write(channel, Bytes::copy_from_slice(content)).await,
        }
    }

    /// Says how it ended and closes everything in order.
    pub(crate) async fn finish(mut self, status: &[u8]) -> Result<(), Gone> {
        self.send(ERROR, status).await?;
        match self.wire {
            Wire::Socket(socket) => socket.finish().await,
            Wire::Streams(streams) => streams.finish().await,
        }
    }
}
