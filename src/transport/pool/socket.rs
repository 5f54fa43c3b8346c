//! The TCP socket of a connection, below TLS: it tells what hyper does not.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;

/// The socket.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TokioIo<TcpStream>,
    signals: Arc<Signals>,
}

/// What a socket and the [`Link`](super::link::Link) that owns it say to each other. One task at a time has both.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The connection was idle: before anything is written, the kernel is asked whether anything came meanwhile.
    must_look: AtomicBool,
    /// The kernel took not all of what was to be written.
    is_full: AtomicBool,
}

impl Socket {
    pub(super) fn new(tcp: TokioIo<TcpStream>) -> Self {
        Self { tcp, signals: Arc::default() }
    }

    pub(super) fn signals(&self) -> Arc<Signals> {
        self.signals.clone()
    }

    /// What came while nobody had asked for anything is no answer: whoever asked next would get what is not theirs. The
    /// kernel is asked itself, because tokio knows of new bytes only after it has waited for events the next time.
    fn look(&self) -> io::Result<()> {
        let mut byte = [MaybeUninit::uninit()];
        let came = match SockRef::from(self.tcp.inner()).peek(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.signals.must_look.store(false, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => return Err(error),
            Ok(0) => "the server closed an idle connection",
            Ok(_) => "bytes came on an idle connection",
        };
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, came))
    }

    fn looked(&self) -> io::Result<()> {
        if self.signals.must_look.load(Ordering::Relaxed) { self.look() } else { Ok(()) }
    }

    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.signals.is_full.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl Signals {
    pub(super) fn look_first(&self) {
        self.must_look.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.looked()?;
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.looked()?;
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.looked()?;
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.note(written)
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
