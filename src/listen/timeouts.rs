//! Timeouts for what a client sends and takes.
//!
//! hyper's `header_read_timeout` cannot do this: it also runs between two requests, and closes without an answer. So a
//! wrapper around the socket times its reads, depending on what the connection is doing:
//!
//! - Waiting for the connection's first request, or in the middle of a request's head: `ENTRADA_HEAD_TIMEOUT`. On
//!   HTTP/1.1 the client then gets a 408; on HTTP/2 the connection is closed.
//! - Otherwise, no timeout for reads: whoever runs the connection notices that it is unused, and on HTTP/2 its PINGs find
//!   out whether the client is still there.
//!
//! A write waits `ENTRADA_STALL_TIMEOUT` for a client that takes nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::phase::{Doing, Phase};
use crate::config::Limits;
use crate::problem::HEAD_TOO_SLOW;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// For a request's head, from its first byte to its last; and for the first head of a connection from its beginning.
    head: Duration,
    /// To take any of what we have to say.
    stall: Duration,
}

/// After our last byte, how long we read on from a client that still sends, and how long from one that does not.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_IDLE: Duration = Duration::from_secs(5);
const LINGER_BUFFER_BYTES: usize = 16 * 1024;

/// A socket whose reads time out by what its connection is doing.
pub(super) struct TimeoutStream<S, G> {
    inner: S,
    /// Dropped together with the socket.
    _guard: G,
    phase: Phase,
    timeouts: Timeouts,
    /// Runs out with the time for a head, and after our last byte with the time to linger.
    timer: Pin<Box<Sleep>>,
    /// The timer was set for the head that is awaited. It is set only once more bytes of that have to be waited for: most
    /// heads come in one piece.
    is_timing: bool,
    /// Whether a slow head gets a 408: on HTTP/1.1 only, because it is written as HTTP/1.1 text.
    sends_408: bool,
    /// The client has sent all that it will.
    has_ended: bool,
    /// After our last byte, until when we read on.
    lingers_until: Option<Instant>,
    /// Runs while the client takes nothing of what we have to say.
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl Timeouts {
    pub(super) fn of(limits: &Limits) -> Self {
        Self { head: limits.head, stall: limits.stall }
    }
}

impl<S, G> TimeoutStream<S, G> {
    /// The timeout for the first head runs from now on. `guard` is dropped together with the socket.
    pub(super) fn new(inner: S, guard: G, phase: Phase, timeouts: Timeouts, sends_408: bool) -> Self {
        let timer = Box::pin(tokio::time::sleep(timeouts.head));
        Self {
            inner,
            _guard: guard,
            phase,
            timeouts,
            timer,
            is_timing: true,
            sends_408,
            has_ended: false,
            lingers_until: None,
            write_timer: None,
        }
    }

    /// Lets `write` wait no longer than `ENTRADA_STALL_TIMEOUT` for a client that takes nothing at all. A stream or a tunnel
    /// on HTTP/1.1 may wait as long as it likes; on HTTP/2 a client that does not want to read one stream still reads the
    /// others, and our PINGs.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.write_timer = None;
            return write;
        }
        let is_free = self.sends_408 && (self.phase.is_streaming() || self.phase.is_handed_over());
        if is_free {
            return write;
        }
        let stall = self.timeouts.stall;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin, G> TimeoutStream<S, G> {
    /// Reads and drops what the client still sends, until it has ended its side, is silent, or has sent for too long.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [std::mem::MaybeUninit::uninit(); LINGER_BUFFER_BYTES];
        while !self.has_ended {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let now = Instant::now();
                    let until = self.lingers_until.unwrap_or(now);
                    if now >= until {
                        break;
                    }
                    self.timer.as_mut().reset(until.min(now + LINGER_IDLE));
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(cx));
                    break;
                }
            }
        }
        self.has_ended = true;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncRead for TimeoutStream<S, G> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.has_ended |= had_room && matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        match this.phase.now() {
            Doing::Answering => return read,
            Doing::Nothing => {
                if buf.filled().len() > before {
                    this.phase.head_begins();
                    this.is_timing = false;
                }
                return read;
            }
            Doing::AwaitingHead if read.is_ready() => return read,
            Doing::AwaitingHead => {
                if !this.is_timing {
                    this.timer.as_mut().reset(Instant::now() + this.timeouts.head);
                    this.is_timing = true;
                }
                ready!(this.timer.as_mut().poll(cx));
            }
        }
        if this.sends_408 {
            // A client that does not read may not get it all; we do not wait for that.
            let _best_effort = Pin::new(&mut this.inner).poll_write(cx, HEAD_TOO_SLOW);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncWrite for TimeoutStream<S, G> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.bounded(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.bounded(cx, flushed)
    }

    /// Ends our side, then reads on for a while: if the socket were closed while the client still sends, TCP would reset the
    /// connection, and an answer that the client has not read yet would be lost. nginx calls this lingering. A tunnel does
    /// that by itself: here its end would be that of one direction only.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.phase.is_handed_over() {
            return Pin::new(&mut this.inner).poll_shutdown(cx);
        }
        if this.lingers_until.is_none() {
            let ended = Pin::new(&mut this.inner).poll_shutdown(cx);
            ready!(this.bounded(cx, ended))?;
            this.lingers_until = Some(Instant::now() + LINGER);
            this.timer.as_mut().reset(Instant::now() + LINGER_IDLE);
        }
        this.poll_linger(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
    const STALL_TIMEOUT: Duration = Duration::from_secs(300);

    const TIMEOUTS: Timeouts = Timeouts { head: HEAD_TIMEOUT, stall: STALL_TIMEOUT };

    async fn expect_read(
        stream: &mut TimeoutStream<tokio::io::DuplexStream, ()>,
        within: Duration,
    ) -> io::Result<usize> {
        let mut buffer = [0; 64];
        let read = tokio::time::timeout(within, stream.read(&mut buffer)).await;
        read.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// A head that does not become whole is told so after 20 s, however its bytes trickle.
    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_a_408() {
        let (mut client, server) = tokio::io::duplex(1_024);
        let mut stream = TimeoutStream::new(server, (), Phase::default(), TIMEOUTS, true);
        for _ in 0..3 {
            client.write_all(b"G").await.unwrap();
            assert_eq!(expect_read(&mut stream, HEAD_TIMEOUT).await.unwrap(), 1);
            let waited = expect_read(&mut stream, Duration::from_secs(6)).await;
            assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        let error = expect_read(&mut stream, HEAD_TIMEOUT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(stream);
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    }

    /// A connection that answers, or has nothing to do, waits for ever; a new head has its 20 s.
    #[tokio::test(start_paused = true)]
    async fn only_a_head_has_a_timeout() {
        let (mut client, server) = tokio::io::duplex(1_024);
        let phase = Phase::default();
        let mut stream = TimeoutStream::new(server, (), phase.clone(), TIMEOUTS, true);
        let busy = phase.busy();
        let waited = expect_read(&mut stream, Duration::from_secs(86_400)).await;
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(busy);
        let waited = expect_read(&mut stream, Duration::from_secs(86_400)).await;
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"GET").await.unwrap();
        assert_eq!(expect_read(&mut stream, HEAD_TIMEOUT).await.unwrap(), 3);
        let waited = expect_read(&mut stream, HEAD_TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::WouldBlock, "it has all of its 20 s");
        let waited = expect_read(&mut stream, Duration::from_secs(2)).await;
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut, "and not more");
    }

    /// After our last byte what the client still sends is read, until it ends its side; a client that stays silent is left
    /// after 5 s.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_closed_reads_on_for_a_while() {
        for ends in [true, false] {
            let (mut client, server) = tokio::io::duplex(64);
            let phase = Phase::default();
            let mut stream = TimeoutStream::new(server, (), phase, TIMEOUTS, true);
            let began = Instant::now();
            let sends = async {
                client.write_all(&[0; 100_000]).await.unwrap();
                if ends {
                    client.shutdown().await.unwrap();
                }
                client
            };
            let (closed, _client) = tokio::join!(stream.shutdown(), sends);
            closed.unwrap();
            assert_eq!(began.elapsed(), if ends { Duration::ZERO } else { LINGER_IDLE });
        }
    }

    /// A client that takes nothing is left after the stall timeout, one that takes a little now and then is not, and a stream
    /// may wait for ever.
    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_its_client_only_so_long() {
        let (mut client, server) = tokio::io::duplex(64);
        let phase = Phase::default();
        let mut stream = TimeoutStream::new(server, (), phase.clone(), TIMEOUTS, true);
        let _busy = phase.busy();
        let began = Instant::now();
        let streaming = phase.streaming();
        let waited = tokio::time::timeout(STALL_TIMEOUT * 10, stream.write_all(&[0; 100])).await;
        assert!(waited.is_err(), "a stream waits");
        drop(streaming);
        let takes = async {
            let mut pause = tokio::time::interval(STALL_TIMEOUT * 9 / 10);
            for _ in 0..5 {
                pause.tick().await;
                client.read_exact(&mut [0; 20]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(stream.write_all(&[0; 64]), takes);
        written.unwrap();
        let error = stream.write_all(&[0; 200]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() > STALL_TIMEOUT * 11);
    }

    /// A tunnel's half-close takes nothing from its other half.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_closes_its_half_still_reads() {
        let (mut client, server) = tokio::io::duplex(64);
        let phase = Phase::default();
        let mut stream = TimeoutStream::new(server, (), phase.clone(), TIMEOUTS, true);
        phase.hand_over();
        stream.shutdown().await.unwrap();
        client.write_all(b"still").await.unwrap();
        assert_eq!(expect_read(&mut stream, Duration::from_secs(1)).await.unwrap(), 5);
    }

    /// A tunnel has no timeout.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_has_no_timeout() {
        let (_client, server) = tokio::io::duplex(64);
        let phase = Phase::default();
        let mut stream = TimeoutStream::new(server, (), phase.clone(), TIMEOUTS, true);
        phase.hand_over();
        let waited = expect_read(&mut stream, Duration::from_secs(7 * 86_400)).await;
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
