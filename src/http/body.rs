//! The body of an answer: our own bytes, or upstream's as they come.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;

/// An error that breaks an answer off: the client sees that it is not whole.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What an exchange holds until its answer's last byte has been passed on, or its tunnel has closed: the right to one
/// connection to an upstream server, its place among its user's requests, its record. All of it is free again when the
/// last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    _held: Arc<dyn Any + Send + Sync>,
}

impl Lease {
    /// `held` is dropped with it.
    #[must_use]
    pub(crate) fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Arc::new(held) }
    }
}

/// An extension of an answer: a stream, which may be silent for as long as it likes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unhurried;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Our own, whole.
    Own(Full<Bytes>),
    /// Upstream's, passed on frame by frame, as fast as the client reads.
    Boxed(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub(crate) fn empty() -> Self {
        Self::Own(Full::default())
    }

    /// Frames as they come.
    pub(crate) fn boxed(
        body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    ) -> Self {
        Self::Boxed(UnsyncBoxBody::new(body))
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
            Self::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(full) => full.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(full) => full.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
