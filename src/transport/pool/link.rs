//! One connection, and the answer that comes on it.
//!
//! Nobody but the exchange itself polls it: the wait for the answer's head, and then each look for more of its body. A
//! client library would have a task for each connection, or two halves that wake each other; and it keeps buffers for as
//! long as the connection lives, 26 KiB with hyper's, which is half of what a silent watch costs. Here a connection that
//! waits for bytes holds none.

mod received;

use std::fmt;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use self::received::Held;
pub(crate) use self::received::Received;
use super::super::TransportError;
use super::super::outgoing::Outgoing;
use super::broken_io;
use super::decoder::{Decoder, Length};
use super::head::{Head, broken, may_be_whole};
use super::idle::Idle;
use super::upload::Upload;

/// What one read can bring: the largest record of TLS.
const READ_BYTES: usize = 16 * 1024;
/// After a read of at least so many bytes the next is expected to be as large, and goes into a buffer of its own at once.
/// Smaller ones pass the stack, so that what is kept of them takes no more than they have.
const LARGE_READ_BYTES: usize = 8 * 1024;
/// For some large reads.
const LARGE_BUFFER_BYTES: usize = 64 * 1024;
/// `100 Continue` and the like before an answer.
const MAX_INTERIM_HEADS: usize = 16;

/// A connection: TLS, except in front of a mount that has none.
type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// The next part of a body.
type Frames = Poll<Option<Result<Frame<Bytes>, TransportError>>>;

/// A connection that has one exchange at a time.
pub(super) struct Link {
    stream: Stream,
    upload: Upload,
    /// Why the server took no more of the request. It may have answered all the same.
    upload_fault: Option<TransportError>,
    /// Read, and not yet passed on.
    incoming: Bytes,
    /// Where large reads go.
    buffer: BytesMut,
    reads_are_large: bool,
    decoder: Decoder,
    keeps_open: bool,
    home: Weak<Idle>,
    /// The trust that it was made with.
    pub(super) generation: u64,
    /// The round of the pool's sweeper in which it became idle.
    pub(super) idle_since: u64,
}

/// What was seen of an answer so far: bytes of a head that was not whole, and heads before the answer's own.
#[derive(Default)]
struct Seen {
    bytes: usize,
    interim: usize,
}

impl Link {
    /// `stream` is a connection on which nothing was said yet.
    pub(super) fn new(stream: Stream, home: Weak<Idle>, generation: u64) -> Box<Self> {
        Box::new(Self {
            stream,
            upload: Upload::nothing(),
            upload_fault: None,
            incoming: Bytes::new(),
            buffer: BytesMut::new(),
            reads_are_large: false,
            decoder: Decoder::new(Length::Exact(0)),
            keeps_open: true,
            home,
            generation,
            idle_since: 0,
        })
    }

    /// Sends a request and waits for the head of its answer. The future does not hold the request: each one around would
    /// have room for it, and move it along.
    pub(super) fn exchange(
        mut self: Box<Self>,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Received>, TransportError>> {
        let (head, body) = request.into_parts();
        let to_head = head.method == Method::HEAD;
        let begun = Upload::new(&head, body).map(|upload| self.upload = upload);
        async move {
            begun?;
            let mut seen = Seen::default();
            let head = std::future::poll_fn(|cx| self.poll_head(cx, to_head, &mut seen)).await?;
            self.decoder = Decoder::new(head.length);
            self.keeps_open &= head.keeps_open;
            let switches = head.response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let connection = if switches { Held::Own(self) } else { self.settled() };
            Ok(head.response.map(|()| Received::new(connection)))
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        to_head: bool,
        seen: &mut Seen,
    ) -> Poll<Result<Head, TransportError>> {
        let _goes_on = self.poll_upload(cx)?;
        loop {
            let is_worth_a_look = !self.incoming.is_empty() && may_be_whole(&self.incoming, seen.bytes);
            if is_worth_a_look && let Some((head, end)) = Head::read(&self.incoming, to_head)? {
                self.incoming.advance(end);
                if !head.is_interim() {
                    return Poll::Ready(Ok(head));
                }
                *seen = Seen { bytes: 0, interim: seen.interim + 1 };
                if seen.interim > MAX_INTERIM_HEADS {
                    return Poll::Ready(Err(broken("it only ever announces an answer")));
                }
                continue;
            }
            seen.bytes = self.incoming.len();
            if !ready!(self.poll_read(cx))? {
                let hung_up =
                    || TransportError::HungUp("it closed the connection without an answer".to_owned());
                return Poll::Ready(Err(self.upload_fault.take().unwrap_or_else(hung_up)));
            }
        }
    }

    /// Sends what can be sent of the request. Ready when nothing is left to send.
    ///
    /// # Errors
    /// When the client gives up. A server that takes no more is no error yet: it may have said why.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        match self.upload.poll(&mut self.stream, cx) {
            Poll::Ready(Err(error)) if !matches!(error, TransportError::ClientGone(_)) => {
                self.upload = Upload::nothing();
                self.upload_fault = Some(error);
                self.keeps_open = false;
                Poll::Ready(Ok(()))
            }
            polled => polled,
        }
    }

    /// Reads more; `false` at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, TransportError>> {
        let stream = Pin::new(&mut self.stream);
        let read = if self.reads_are_large {
            if self.buffer.capacity() < READ_BYTES {
                self.buffer = BytesMut::with_capacity(LARGE_BUFFER_BYTES);
            }
            poll_read_buf(stream, cx, &mut self.buffer).map_ok(|_| self.buffer.split().freeze())
        } else {
            let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            stream.poll_read(cx, &mut bytes).map_ok(|()| Bytes::copy_from_slice(bytes.filled()))
        };
        self.reads_are_large = matches!(&read, Poll::Ready(Ok(read)) if read.len() >= LARGE_READ_BYTES);
        if read.is_pending() {
            // It may be long until more comes. Even empty, a part of a buffer would keep all of it.
            self.buffer = BytesMut::new();
            self.incoming = Bytes::copy_from_slice(&self.incoming);
        }
        let read =
            ready!(read).map_err(|error| self.upload_fault.take().unwrap_or_else(|| broken_io(&error)))?;
        let is_end = read.is_empty();
        self.incoming =
            if self.incoming.is_empty() { read } else { [&self.incoming[..], &read].concat().into() };
        Poll::Ready(Ok(!is_end))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Frames {
        loop {
            if let Some(frame) = self.decoder.take(&mut self.incoming)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.decoder.is_over() {
                return Poll::Ready(None);
            }
            if !ready!(self.poll_read(cx))? {
                self.decoder.closed()?;
            }
        }
    }

    /// Lets go of it where its exchange is over: it goes back to the pool, if it may be used again.
    fn settled(mut self: Box<Self>) -> Held {
        if !self.is_over() {
            return Held::Own(self);
        }
        // What comes behind an answer is nobody's.
        if self.keeps_open
            && self.incoming.is_empty()
            && self.is_silent()
            && let Some(home) = self.home.upgrade()
        {
            self.incoming = Bytes::new();
            self.buffer = BytesMut::new();
            home.put(self);
        }
        Held::Nothing
    }

    /// Whether both sides have said all.
    fn is_over(&self) -> bool {
        self.decoder.is_over() && self.upload.is_over()
    }

    /// Whether TLS and tokio know of nothing more.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Of an idle one: whether it can be used. What came while nobody had asked for anything is no answer: whoever asked
    /// next would get what is not theirs. The kernel is asked itself, because tokio knows of new bytes only after it has
    /// waited for events the next time.
    pub(super) fn is_usable(&self) -> bool {
        let tcp = match self.stream.inner() {
            MaybeHttpsStream::Http(tcp) => tcp,
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner(),
        };
        let came = SockRef::from(tcp.inner()).peek(&mut [MaybeUninit::uninit()]);
        matches!(came, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}
