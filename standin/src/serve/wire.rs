//! A hand on the connection below HTTP, for answers that are not HTTP.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Found in the extensions of every request; all requests of a connection share one.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<Option<Bytes>>>);

impl Wire {
    /// Sends these bytes in place of whatever would be written next, and then breaks the connection.
    pub fn spoil(&self, bytes: impl Into<Bytes>) {
        *self.lock() = Some(bytes.into());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bytes>> {
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
        let mut spoilt = this.wire.lock();
        let Some(instead) = spoilt.as_mut() else {
            return Pin::new(&mut this.inner).poll_write(context, bytes);
        };
        while instead.has_remaining() {
            let written = ready!(Pin::new(&mut this.inner).poll_write(context, instead))?;
            instead.advance(written);
        }
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
