//! One connection, and the answer that comes on it.
//!
//! hyper's client has two halves: a connection that must be polled to read and write, and a sender. Usually a task of its
//! own polls the connection, and each request crosses to that task and back. Here nobody but the exchange itself polls
//! it: the wait for the answer's head, and then each look for more of its body. That saves the task and the wakeups, which
//! on a busy machine go from one thread to another, and 8 % of all instructions of a small request; and an idle connection
//! costs nothing.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, Parts, SendRequest};
use hyper_rustls::MaybeHttpsStream;

use super::super::outgoing::Outgoing;
use super::idle::Idle;
use super::socket::{Signals, Socket};

/// What waits in our memory for a client that does not read. With what waits in the kernel it keeps a connection within
/// the region busy at more than 100 MB/s.
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// A connection: TLS, except in front of a mount that has none.
pub(crate) type Stream = MaybeHttpsStream<Socket>;

/// A connection that has one exchange at a time.
pub(super) struct Link {
    sender: SendRequest<Outgoing>,
    /// `None` after it has been dropped, which tells whoever still waits for something from it.
    connection: Option<Connection<Stream, Outgoing>>,
    state: State,
    /// It was last polled with the waker of a task, which it may still wake.
    knows_a_task: bool,
    signals: Arc<Signals>,
    home: Weak<Idle>,
    /// The trust that it was made with.
    pub(super) generation: u64,
    /// The round of the pool's sweeper in which it became idle.
    pub(super) idle_since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more can come; it must not be polled again.
    Ended,
    /// The same, because something went wrong.
    Broken,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing was sent: the connection had ended before. The request may be sent on another one.
    Unsent(Box<Request<Outgoing>>),
    /// It may have been sent.
    Broken(hyper::Error),
}

/// An answer's body. Its connection goes back to the pool with the last byte; if the body is dropped before, the
/// connection is closed.
#[derive(Debug)]
pub(crate) struct Received {
    incoming: Incoming,
    /// `None` when all has been read, or another task reads it.
    link: Option<Box<Link>>,
    /// It broke off: to be told with the next look.
    error: Option<hyper::Error>,
}

impl Link {
    /// `stream` is a connection on which nothing was said yet.
    pub(super) async fn new(
        stream: Stream,
        signals: Arc<Signals>,
        home: Weak<Idle>,
        generation: u64,
    ) -> hyper::Result<Box<Self>> {
        let (sender, connection) = Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(stream).await?;
        let (connection, state) = (Some(connection), State::Open);
        let (knows_a_task, idle_since) = (false, 0);
        Ok(Box::new(Self { sender, connection, state, knows_a_task, signals, home, generation, idle_since }))
    }

    /// Sends a request and waits for the head of its answer. hyper takes the request at once, and sends it when it is
    /// polled.
    pub(super) fn exchange(
        mut self: Box<Self>,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Received>, Failed>> {
        // Boxed: it has room for a whole request, which would be part of each future on the way.
        let answer = Box::pin(self.sender.try_send_request(request));
        self.answered(answer)
    }

    async fn answered(
        mut self: Box<Self>,
        mut answer: Pin<
            Box<impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>>>,
        >,
    ) -> Result<Response<Received>, Failed> {
        let mut is_sent = false;
        let answered = std::future::poll_fn(|cx| {
            let mut look = |silent: &mut Context<'_>| answer.as_mut().poll(silent);
            if !std::mem::replace(&mut is_sent, true) {
                // Sends it; there can be no answer yet, but an error.
                self.go_on(cx.waker());
                let answered = look(&mut Context::from_waker(Waker::noop()));
                if answered.is_ready() || self.state == State::Open {
                    return answered;
                }
            }
            self.poll(cx, look)
        })
        .await;
        match answered {
            Ok(response) => {
                Ok(response.map(|incoming| Received { incoming, link: self.settled(), error: None }))
            }
            Err(mut error) => Err(match error.take_message() {
                Some(unsent) => Failed::Unsent(Box::new(unsent)),
                None => Failed::Broken(error.into_error()),
            }),
        }
    }

    /// Lets the connection go on until `look` finds what is waited for.
    ///
    /// hyper's halves wake each other. Both are polled here by the same task, which such a wakeup would only make run
    /// once more, or wake another thread to run it. So the connection is polled with a waker that wakes nobody, and only
    /// when nothing was found once more with the task's.
    fn poll<T>(&mut self, cx: &Context<'_>, mut look: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let mut silent = Context::from_waker(Waker::noop());
        for waker in [Waker::noop(), cx.waker()] {
            self.go_on(waker);
            if let Poll::Ready(found) = look(&mut silent) {
                return Poll::Ready(found);
            }
            if self.state != State::Open {
                self.connection = None;
                return look(&mut silent);
            }
        }
        Poll::Pending
    }

    /// Reads and writes what can be read and written without waiting.
    fn go_on(&mut self, waker: &Waker) {
        let Some(connection) = self.connection.as_mut().filter(|_| self.state == State::Open) else { return };
        self.knows_a_task = !waker.will_wake(Waker::noop());
        match connection.poll_without_shutdown(&mut Context::from_waker(waker)) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.state = State::Ended,
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a connection to the API server ended");
                self.state = State::Broken;
            }
        }
    }

    /// Lets go of it where its exchange is over: it goes back to the pool, if it may be used again.
    fn settled(mut self: Box<Self>) -> Option<Box<Self>> {
        if self.is_silent() {
            if let Some(home) = self.home.upgrade() {
                home.put(self);
            }
            return None;
        }
        Some(self)
    }

    /// Whether the last exchange is over for both sides, all of it was read and sent, and nothing came after it.
    fn is_silent(&mut self) -> bool {
        // hyper asks for the next request only then, and after it has seen that there is nothing to read.
        if !self.sender.is_ready() || self.signals.is_full() {
            return false;
        }
        if self.knows_a_task {
            self.go_on(Waker::noop());
        }
        self.state == State::Open && self.sender.is_ready()
    }

    /// Of an idle one: whether it could still be used.
    pub(super) fn is_usable(&mut self) -> bool {
        self.go_on(Waker::noop());
        self.signals.look_first();
        self.state == State::Open
    }

    /// From now on it is nobody's: what comes before it is used again ends it.
    pub(super) fn lay_down(&mut self, round: u64) {
        self.idle_since = round;
        self.signals.look_first();
    }

    /// Goes on until its exchange is over, whether or not anybody reads the answer.
    async fn finish(mut self: Box<Self>) {
        std::future::poll_fn(|cx| {
            self.go_on(cx.waker());
            let is_done = self.sender.is_ready() && !self.signals.is_full();
            if is_done || self.state != State::Open { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(self.settled());
    }
}

impl Received {
    /// Whether part of the request is still to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.signals.is_full())
    }

    /// For an answer that comes before the whole request was sent: the work that has to be done while nobody reads the
    /// answer. A client may send all of its request first.
    pub(crate) fn apart(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.link.take().map(Link::finish)
    }

    /// The connection itself, after the server has switched protocols.
    pub(crate) fn into_switched(
        self,
    ) -> Option<impl Future<Output = Option<Parts<Stream>>> + Send + 'static> {
        let mut link = self.link?;
        Some(async move {
            // The request may have a body, which is sent first.
            std::future::poll_fn(|cx| {
                link.go_on(cx.waker());
                if link.state == State::Open { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            link.connection.filter(|_| link.state == State::Ended).map(Connection::into_parts)
        })
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, link, error } = self.get_mut();
        if let Some(error) = error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(mut held) = link.take() else { return Pin::new(incoming).poll_frame(cx) };
        let mut look = |silent: &mut Context<'_>| Pin::new(&mut *incoming).poll_frame(silent);
        // What was read already comes first.
        let frame = look(&mut Context::from_waker(Waker::noop()));
        let frame = if frame.is_ready() { frame } else { held.poll(cx, look) };
        *link = if frame.is_ready() { held.settled() } else { Some(held) };
        if let Poll::Ready(Some(Err(broken))) = frame {
            // hyper's server drops what it has not sent yet when a body breaks off. So that the client gets all that came
            // before, it may send that first.
            *error = Some(broken);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("state", &self.state).finish_non_exhaustive()
    }
}
