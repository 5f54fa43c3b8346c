//! The body of a request on its way upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::http::unread::InUse;

/// The client's body, or none.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Empty,
    /// `_sent` is dropped when all of it has been sent, or given up.
    Client {
        body: Incoming,
        _sent: oneshot::Sender<()>,
        /// The client's connection is busy for as long.
        _in_use: Option<InUse>,
    },
}

/// Resolves when the body has been sent.
pub(crate) struct Sent(Option<oneshot::Receiver<()>>);

impl Outgoing {
    pub(crate) fn from_client(body: Incoming, in_use: Option<InUse>) -> (Self, Sent) {
        if body.is_end_stream() {
            return (Self::Empty, Sent(None));
        }
        let (sent, receiver) = oneshot::channel();
        (Self::Client { body, _sent: sent, _in_use: in_use }, Sent(Some(receiver)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Sent {
    pub(crate) const NOTHING: Self = Self(None);

    pub(super) async fn wait(self) {
        if let Some(sent) = self.0 {
            // The sender is only ever dropped.
            let _dropped = sent.await;
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Client { body, .. } = &mut *self else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        let is_last = matches!(frame, Poll::Ready(None)) || body.is_end_stream();
        if is_last {
            self.set(Self::Empty);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { body, .. } => body.size_hint(),
        }
    }
}
