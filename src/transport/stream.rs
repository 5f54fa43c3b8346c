//! The body of a stream: upstream's frames as they come, until the stream is over: its credential has ended, or a
//! graceful stop ends the watch.
//!
//! A task beside the body waits for that end and closes the connection to upstream at once. The body alone could not:
//! while the client does not read, nobody polls it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::{Frame, SizeHint};
use hyper::body::Body as _;
use tokio::sync::oneshot;

use super::boundary::Boundary;
use super::pool::Received;
use crate::http::body::{BodyError, Lease};
use crate::streams::{EndedBy, Over, Stream};

/// A body that ends when its stream is over.
pub(super) struct StreamBody {
    source: Arc<Source>,
    /// Where one event ends and the next begins. There, and only there, an end of ours looks like one of the API
    /// server's own; anywhere else, and always without a boundary, the body must break off.
    boundary: Option<Boundary>,
    /// Dropped with the body, which ends the task.
    _alive: oneshot::Sender<()>,
}

/// Upstream's body, which the task can take away.
struct Source {
    upstream: Mutex<Upstream>,
    reader: AtomicWaker,
    /// Upstream has sent its last byte, or broken off.
    has_ended: AtomicBool,
}

enum Upstream {
    Open(Received),
    /// Taken away, and why.
    Ended(Over),
}

impl StreamBody {
    /// Passes `incoming`, which comes on the connection of `lease`, on until `stream` is over; the second value is the task
    /// to spawn. `is_watch`: its client lists anew after an end, which may therefore look like one of the API server's own.
    pub(super) fn new(
        incoming: Received,
        lease: Lease,
        headers: &HeaderMap,
        stream: Stream,
        is_watch: bool,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let has_no_body = incoming.is_end_stream();
        let upstream = Mutex::new(Upstream::Open(incoming));
        // Without a body there is nothing to be polled to its end.
        let has_ended = AtomicBool::new(has_no_body);
        let source = Source { upstream, reader: AtomicWaker::new(), has_ended };
        let source = Arc::new(source);
        let (alive, mut left) = oneshot::channel::<()>();
        let cut = source.clone();
        let task = async move {
            tokio::select! {
                over = stream.over() => {
                    cut.take_away(over);
                    drop(lease);
                    let place = stream.close();
                    // As long as the client does not take the end, hyper holds what it has not sent, on HTTP/2 for ever.
                    let _gone = left.await;
                    drop(place);
                }
                _gone = &mut left => {
                    let has_ended = cut.has_ended.load(Ordering::Relaxed);
                    stream.ended_by(if has_ended { EndedBy::Upstream } else { EndedBy::Client });
                    drop(lease);
                }
            }
        };
        let boundary = is_watch.then(|| Boundary::of(headers.get(CONTENT_TYPE))).flatten();
        (Self { source, boundary, _alive: alive }, task)
    }
}

impl Source {
    fn take_away(&self, over: Over) {
        *self.upstream() = Upstream::Ended(over);
        self.reader.wake();
    }

    fn upstream(&self) -> MutexGuard<'_, Upstream> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.source.reader.register(cx.waker());
        let mut upstream = this.source.upstream();
        let incoming = match &mut *upstream {
            Upstream::Open(incoming) => incoming,
            Upstream::Ended(over) => {
                let clean = this.boundary.as_ref().is_some_and(Boundary::is_here);
                return Poll::Ready((!clean).then(|| Err(cut_off(*over).into())));
            }
        };
        let frame = Pin::new(&mut *incoming).poll_frame(cx);
        let is_last = incoming.is_end_stream();
        match (&frame, &mut this.boundary) {
            (Poll::Ready(None | Some(Err(_))), _) => this.source.has_ended.store(true, Ordering::Relaxed),
            (Poll::Ready(Some(Ok(frame))), Some(boundary)) => {
                if let Some(data) = frame.data_ref() {
                    boundary.pass(data);
                }
            }
            _ => {}
        }
        // With a known length, hyper asks no more after the last byte.
        if is_last {
            this.source.has_ended.store(true, Ordering::Relaxed);
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match &*self.source.upstream() {
            Upstream::Open(incoming) => incoming.is_end_stream(),
            Upstream::Ended(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.source.upstream() {
            Upstream::Open(incoming) => incoming.size_hint(),
            Upstream::Ended(_) => SizeHint::default(),
        }
    }
}

/// The error that breaks the body off.
fn cut_off(over: Over) -> &'static str {
    match over {
        Over::Credential(_) => "the stream was ended: its credential has ended",
        Over::Stopping => "the stream was ended: the process is stopping",
    }
}
