//! An upgraded connection: bytes both ways, whatever they mean. Half-closes pass through; there is no idle limit.
//!
//! What a side said before it left still arrives: a direction ends only when all that was read has been passed on, and
//! its end does not cut the other one short.

use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::streams::Stream;

/// Enough for exec and port-forward at full speed; 500 tunnels hold 16 MiB.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long a client is listened to that still talks after upstream's last word. Were we to hang up at once, with bytes
/// of its unread, TCP would reset the connection and throw away what has not reached the client yet.
const LINGER: Duration = Duration::from_secs(5);

/// How one direction ended; `R` reads from its source.
enum End<R> {
    /// The source has closed its half, and the sink was told so.
    Closed,
    /// The source broke; what was read before has been passed on.
    SourceBroke,
    /// The sink takes no more.
    SinkBroke(R),
}

/// Runs until both sides have closed, one has broken, or the tunnel's credential has ended.
pub(super) async fn run(client: OnUpgrade, upstream: OnUpgrade, stream: Stream) {
    let copy = async {
        match tokio::try_join!(client, upstream) {
            Ok((client, upstream)) => both_ways(TokioIo::new(client), TokioIo::new(upstream)).await,
            Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
        }
    };
    tokio::select! {
        () = copy => {}
        // Dropping both sides closes them.
        () = stream.over() => tracing::info!("a tunnel was closed because its credential has ended"),
    }
}

async fn both_ways(client: impl AsyncRead + AsyncWrite, upstream: impl AsyncRead + AsyncWrite) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let mut up = pin!(pass(from_client, to_upstream));
    let mut down = pin!(pass(from_upstream, to_client));
    tokio::select! {
        end = &mut up => match end {
            End::Closed => {
                down.await;
            }
            // Whom should upstream's words reach?
            End::SourceBroke => {}
            End::SinkBroke(mut client) => {
                // Upstream is about to leave. Its last words are on their way, and must not wait for the client to end.
                let end = tokio::select! {
                    end = down => end,
                    never = async { forget(&mut client).await; std::future::pending().await } => never,
                };
                if matches!(end, End::Closed) {
                    linger(client).await;
                }
            }
        },
        end = &mut down => match end {
            End::Closed => {
                if let End::SinkBroke(client) = up.await {
                    linger(client).await;
                }
            }
            // Not to be taken for an end in order: both sides are dropped as they are.
            End::SourceBroke => {}
            // What the client said before it left is on its way as well.
            End::SinkBroke(_) => {
                up.await;
            }
        },
    }
}

async fn pass<R: AsyncRead + Unpin>(mut from: R, mut to: impl AsyncWrite + Unpin) -> End<R> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "a tunnel broke");
                return End::SourceBroke;
            }
        };
        let passed = match buffer.get(..read) {
            Some(bytes) if read > 0 => send(&mut to, bytes).await,
            _ => to.shutdown().await,
        };
        match passed {
            Err(error) => {
                tracing::debug!(%error, "a side of a tunnel takes no more");
                return End::SinkBroke(from);
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

/// Lets the client finish, whom nobody hears any more.
async fn linger(mut client: impl AsyncRead + Unpin) {
    let _late = tokio::time::timeout(LINGER, forget(&mut client)).await;
}

async fn forget(from: &mut (impl AsyncRead + Unpin)) {
    let _ended = tokio::io::copy(from, &mut tokio::io::sink()).await;
}
