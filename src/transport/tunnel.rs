//! An upgraded connection: bytes both ways, whatever they mean. Half-closes pass through; there is no idle limit.
//!
//! What a side said before it left still arrives: a direction ends only when all that was read has been passed on, and
//! its end does not cut the other one short.

use std::io::{self, Cursor};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::streams::{EndedBy, Stream};

/// Enough for exec and port-forward at full speed; 500 tunnels hold 16 MiB.
const BUFFER_BYTES: usize = 16 * 1024;

/// After upstream's last bytes, how long we go on reading from a client that still sends. If we closed the socket with
/// bytes of the client's unread, TCP would reset the connection, and what has not reached the client yet would be lost.
const LINGER: Duration = Duration::from_secs(5);

/// How one direction of a tunnel ended.
enum End<R> {
    /// Its source sent its last byte (EOF), and the sink was told so: a half-close.
    Closed,
    /// Its source failed. All that was read before has been passed on.
    SourceFailed,
    /// Its sink takes no more bytes. `R` is the source, which may still send.
    SinkFailed(R),
}

/// Runs until both sides have closed, one has failed, or the tunnel's credential has ended.
pub(super) async fn run(
    client: OnUpgrade,
    upstream: impl Future<Output = Option<(impl AsyncRead + AsyncWrite, Bytes)>>,
    stream: Stream,
) {
    let copy = async {
        match tokio::join!(client, upstream) {
            (Ok(client), Some((upstream, first))) => {
                let by = |by| stream.ended_by(by);
                both_ways(TokioIo::new(client), upstream, first, by).await;
            }
            (client, _) => tracing::debug!(?client, "an upgrade was not completed"),
        }
    };
    tokio::select! {
        () = copy => {}
        // Both sides are dropped here, which closes them.
        over = stream.over() => tracing::info!(?over, "a tunnel was closed because its credential has ended"),
    }
}

/// `first` came from upstream already. `ended_by` is told which side ended first.
async fn both_ways(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    first: Bytes,
    ended_by: impl Fn(EndedBy),
) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let from_upstream = Cursor::new(first).chain(from_upstream);
    let mut up = pin!(pass(from_client, to_upstream));
    let mut down = pin!(pass(from_upstream, to_client));
    tokio::select! {
        end = &mut up => {
            ended_by(if matches!(end, End::SinkFailed(_)) { EndedBy::Upstream } else { EndedBy::Client });
            match end {
            // The client has sent all it had; upstream's answer goes on.
            End::Closed => {
                down.await;
            }
            // The client is gone: nobody is left to read upstream's answer, so drop it.
            End::SourceFailed => {}
            // Upstream reads no more and is about to close. Pass its last bytes on, and meanwhile read and drop what
            // the client still sends, so that the client does not block on a full socket.
            End::SinkFailed(mut client) => {
                let end = tokio::select! {
                    end = down => end,
                    never = async { discard(&mut client).await; std::future::pending().await } => never,
                };
                if matches!(end, End::Closed) {
                    linger(client).await;
                }
            }
        }
        }
        end = &mut down => {
            ended_by(if matches!(end, End::SinkFailed(_)) { EndedBy::Client } else { EndedBy::Upstream });
            match end {
            // Upstream has sent all it had; the client may go on sending.
            End::Closed => {
                if let End::SinkFailed(client) = up.await {
                    linger(client).await;
                }
            }
            // Upstream broke off. Both sides are dropped without an orderly close, so that the client sees a break.
            End::SourceFailed => {}
            // The client reads no more, but what it sent before still has to reach upstream.
            End::SinkFailed(_) => {
                up.await;
            }
            }
        }
    }
}

async fn pass<R: AsyncRead + Unpin>(mut from: R, mut to: impl AsyncWrite + Unpin) -> End<R> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "a tunnel broke");
                return End::SourceFailed;
            }
        };
        let passed = match buffer.get(..read) {
            Some(bytes) if read > 0 => send(&mut to, bytes).await,
            _ => to.shutdown().await,
        };
        match passed {
            Err(error) => {
                tracing::debug!(%error, "a side of a tunnel takes no more");
                return End::SinkFailed(from);
            }
            Ok(()) if read == 0 => return End::Closed,
            Ok(()) => {}
        }
    }
}

async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Reads on for a moment before the client's socket is closed: see [`LINGER`].
async fn linger(mut client: impl AsyncRead + Unpin) {
    let _late = tokio::time::timeout(LINGER, discard(&mut client)).await;
}

async fn discard(from: &mut (impl AsyncRead + Unpin)) {
    let _ended = tokio::io::copy(from, &mut tokio::io::sink()).await;
}
