//! The body of an answer: our own bytes, or upstream's as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::streams::Stream;

/// An error that breaks an answer off: the client sees that it is not whole.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// Our own, whole.
    Own(Full<Bytes>),
    /// Upstream's, passed on frame by frame; the client's own window holds it back.
    Upstream(Incoming),
    /// Upstream's, ended when its credential ends.
    Stream(Box<StreamBody>),
}

/// A body that ends with the credential that asked for it.
pub struct StreamBody {
    incoming: Incoming,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether an end of ours looks like one of the API server's own: true for a watch, whose client then lists anew.
    ends_cleanly: bool,
    /// Whether the last byte passed on ended a line, which in a watch is a whole event.
    between_lines: bool,
}

impl std::fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBody").field("ends_cleanly", &self.ends_cleanly).finish_non_exhaustive()
    }
}

impl StreamBody {
    /// Passes `incoming` on until `stream` is over.
    #[must_use]
    pub fn new(incoming: Incoming, stream: Stream, ends_cleanly: bool) -> Self {
        // The stream stays on the books as long as this future lives, which is as long as the body does.
        let over = Box::pin(async move { stream.over().await });
        Self { incoming, over, ends_cleanly, between_lines: true }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            let clean = self.ends_cleanly && self.between_lines;
            return Poll::Ready((!clean).then(|| Err("the credential of this stream has ended".into())));
        }
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.between_lines = data.last() == Some(&b'\n');
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Own(Full::default())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Own(Full::from(text))
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Own(Full::from(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Upstream(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(full) => full.is_end_stream(),
            Self::Upstream(incoming) => incoming.is_end_stream(),
            Self::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(full) => full.size_hint(),
            Self::Upstream(incoming) => incoming.size_hint(),
            Self::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}
