//! A request on its way upstream: what its head has in common everywhere, and its body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use http::{Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::TransportError;
use crate::clock::pause;
use crate::http::unread::InUse;

/// The client's body, our own, or none.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Empty,
    /// Of a question that we ask ourselves.
    Own(Full<Bytes>),
    /// `_sent` is dropped when all of it has been sent, or given up.
    Client {
        body: Incoming,
        progress: Arc<Progress>,
        _sent: oneshot::Sender<()>,
        /// The client's connection is busy for as long.
        _in_use: Option<InUse>,
    },
}

/// Tells when the body has been sent, or that it stands still.
pub(crate) struct Sent(Option<(oneshot::Receiver<()>, Arc<Progress>)>);

/// How a body gets on.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Looks since it last moved.
    looks: AtomicU8,
    /// Its next bytes are the client's to send; otherwise the server has not taken the last ones yet.
    awaits_client: AtomicBool,
}

/// What a body has come to.
pub(super) enum Sending {
    Done,
    /// It has not moved for as long as it may.
    Stalled {
        by_client: bool,
    },
}

/// A body that has not moved at so many looks in a row stands still.
const LOOKS: u8 = 2;

impl Outgoing {
    pub(crate) fn from_client(body: Incoming, in_use: Option<InUse>) -> (Self, Sent) {
        if body.is_end_stream() {
            return (Self::Empty, Sent(None));
        }
        let (sent, receiver) = oneshot::channel();
        let progress = Arc::new(Progress::default());
        let sent = Self::Client { body, progress: progress.clone(), _sent: sent, _in_use: in_use };
        (sent, Sent(Some((receiver, progress))))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Sent {
    pub(crate) const NOTHING: Self = Self(None);

    /// Whether all has been sent, or given up.
    pub(super) fn is_done(&mut self) -> bool {
        if self.0.as_mut().is_some_and(|(sent, _)| sent.try_recv() != Err(TryRecvError::Empty)) {
            // It must not be asked again.
            self.0 = None;
        }
        self.0.is_none()
    }

    /// Waits until all has been sent, as long as it does not stand still for `stall` or up to half as long again.
    pub(super) async fn wait(&mut self, stall: Duration) -> Sending {
        let Some((sent, progress)) = &mut self.0 else { return Sending::Done };
        let period = stall / u32::from(LOOKS);
        let mut looks = interval_at(Instant::now() + period, period);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // The sender is only ever dropped.
                _dropped = &mut *sent => {
                    self.0 = None;
                    return Sending::Done;
                }
                _ = looks.tick() => {
                    if progress.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS {
                        return Sending::Stalled { by_client: progress.awaits_client.load(Ordering::Relaxed) };
                    }
                }
            }
        }
    }

    /// Resolves when the body stands still. Its last part, once that was taken, may wait as long to be written.
    pub(super) async fn stands_still(&mut self, stall: Duration) {
        if let Sending::Done = self.wait(stall).await {
            pause(stall).await;
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
        let (body, progress) = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::Own(body) => return Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Client { body, progress, .. } => (body, progress),
        };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        progress.awaits_client.store(frame.is_pending(), Ordering::Relaxed);
        if frame.is_ready() {
            progress.looks.store(0, Ordering::Relaxed);
        }
        let is_last = matches!(frame, Poll::Ready(None)) || body.is_end_stream();
        if is_last {
            self.set(Self::Empty);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Own(body) => body.is_end_stream(),
            Self::Client { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Own(body) => body.size_hint(),
            Self::Client { body, .. } => body.size_hint(),
        }
    }
}

/// The head of `inbound` as it goes on, with these headers. Path and query stay byte for byte.
///
/// # Errors
/// When its target is no path.
pub(crate) fn outgoing_head(inbound: &Parts, headers: HeaderMap) -> Result<Parts, TransportError> {
    let target = inbound.uri.path_and_query().filter(|target| target.as_str().starts_with('/'));
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = inbound.method.clone();
    head.uri = Uri::from(target.ok_or(TransportError::BadTarget)?.clone());
    head.version = Version::HTTP_11;
    head.headers = headers;
    Ok(head)
}
