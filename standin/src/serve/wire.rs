//! A hand on the connection below HTTP, for answers that are not HTTP.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Found in the extensions of every request; all requests of a connection share one.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<Plan>>);

/// What is done to the next writes.
#[derive(Debug, Default)]
struct Plan {
    instead: Option<Bytes>,
    after: Option<Bytes>,
    joined: Option<Joined>,
}

/// A write with more behind it, and how much of it was asked for.
#[derive(Debug)]
struct Joined {
    bytes: Bytes,
    asked_bytes: usize,
}

impl Wire {
    /// Sends these bytes in place of whatever would be written next, and then breaks the connection.
    pub fn spoil(&self, bytes: impl Into<Bytes>) {
        self.lock().instead = Some(bytes.into());
    }

    /// Sends these bytes right behind whatever is written next: in one TLS record, and so in one read of the peer's.
    pub fn append(&self, bytes: impl Into<Bytes>) {
        self.lock().after = Some(bytes.into());
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that obeys its [`Wire`].
pub(super) struct Tapped<T> {
    pub(super) inner: T,
    pub(super) wire: Wire,
}

impl<T: AsyncRead + Unpin> AsyncRead for Tapped<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tapped<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut plan = this.wire.lock();
        if let Some(after) = plan.after.take() {
            let joined = [bytes, &after].concat().into();
            plan.joined = Some(Joined { bytes: joined, asked_bytes: bytes.len() });
        }
        if let Some(joined) = &mut plan.joined {
            ready!(write_all(&mut this.inner, context, &mut joined.bytes))?;
            let asked = joined.asked_bytes;
            plan.joined = None;
            return Poll::Ready(Ok(asked));
        }
        let Some(instead) = plan.instead.as_mut() else {
            return Pin::new(&mut this.inner).poll_write(context, bytes);
        };
        ready!(write_all(&mut this.inner, context, instead))?;
        ready!(Pin::new(&mut this.inner).poll_flush(context))?;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

fn write_all(
    io: &mut (impl AsyncWrite + Unpin),
    context: &mut Context<'_>,
    bytes: &mut Bytes,
) -> Poll<io::Result<()>> {
    while bytes.has_remaining() {
        let written = ready!(Pin::new(&mut *io).poll_write(context, bytes))?;
        bytes.advance(written);
    }
    Poll::Ready(Ok(()))
}
