//! An answer's body, as it comes on its connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, SizeHint};

use super::{Frames, Link, Stream, TransportError};

/// An answer's body. Its connection goes back to the pool with the last byte; if the body is dropped before, the
/// connection is closed.
#[derive(Debug)]
pub(crate) struct Received {
    connection: Held,
    /// It broke off: to be told with the next look.
    fault: Option<TransportError>,
}

#[derive(Debug)]
pub(super) enum Held {
    /// All has been read.
    Nothing,
    Own(Box<Link>),
    /// A task sends the rest of the request.
    Shared(Arc<Shared>),
}

/// A connection on which one task reads the answer, and another one still sends the request.
#[derive(Debug)]
pub(super) struct Shared {
    /// `None`: back in the pool, or closed.
    link: Mutex<Option<Box<Link>>>,
    reader: AtomicWaker,
    sender: AtomicWaker,
}

impl Shared {
    /// Sends the rest of the request, whether or not anybody reads the answer; ends sooner when the answer is given up.
    async fn send(self: Arc<Self>) {
        std::future::poll_fn(|cx| {
            self.sender.register(cx.waker());
            let mut link = self.link();
            let sent = link.as_mut().map_or(Poll::Ready(Ok(())), |link| link.poll_upload(cx));
            if let Poll::Ready(Err(_client_gone)) = &sent {
                *link = None;
            }
            sent.map(drop)
        })
        .await;
        let over = self.link().take_if(|link| link.is_over());
        drop(over.map(Link::settled));
        // Where the request broke off there is no connection any more, and the reader is to be told.
        self.reader.wake();
    }

    /// Looks for more of the answer. Whoever is the last to end, the one that reads or the one that sends, lets go of the
    /// connection.
    fn poll_body(&self, cx: &mut Context<'_>) -> (Frames, bool) {
        self.reader.register(cx.waker());
        let mut link = self.link();
        let Some(reading) = link.as_mut() else {
            let gone = TransportError::ClientGone("it broke off its request".to_owned());
            return (Poll::Ready(Some(Err(gone))), false);
        };
        let frame = reading.poll_body(cx);
        let is_over = reading.decoder.is_over();
        let over = link.take_if(|link| link.is_over());
        drop(link);
        drop(over.map(Link::settled));
        (frame, is_over)
    }

    fn link(&self) -> MutexGuard<'_, Option<Box<Link>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received {
    pub(super) fn new(connection: Held) -> Self {
        Self { connection, fault: None }
    }

    /// Whether part of the request is still to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(&self.connection, Held::Own(link) if !link.upload.is_over())
    }

    /// For an answer that comes before the whole request was sent: the work that has to be done while nobody reads the
    /// answer. A client may send all of its request first.
    pub(crate) fn apart(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let Held::Own(link) = std::mem::replace(&mut self.connection, Held::Nothing) else { return None };
        let has_all = link.decoder.is_over();
        let (reader, sender) = (AtomicWaker::new(), AtomicWaker::new());
        let shared = Arc::new(Shared { link: Mutex::new(Some(link)), reader, sender });
        if !has_all {
            self.connection = Held::Shared(shared.clone());
        }
        Some(shared.send())
    }

    /// The connection itself, after the server has switched protocols, with what came on it already; nothing where the
    /// request could not be sent to its end.
    pub(crate) fn into_switched(
        mut self,
    ) -> Option<impl Future<Output = Option<(Stream, Bytes)>> + Send + 'static> {
        let connection = std::mem::replace(&mut self.connection, Held::Nothing);
        let Held::Own(mut link) = connection else { return None };
        Some(async move {
            // The request may have a body, which is sent first.
            let sent = std::future::poll_fn(|cx| link.poll_upload(cx)).await;
            let Link { stream, incoming, upload_fault, .. } = *link;
            (sent.is_ok() && upload_fault.is_none()).then_some((stream, incoming))
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Frames {
        let (frame, is_over) = match &mut self.connection {
            Held::Nothing => return Poll::Ready(None),
            Held::Own(link) => (link.poll_body(cx), link.decoder.is_over()),
            Held::Shared(shared) => shared.poll_body(cx),
        };
        if is_over && let Held::Own(link) = std::mem::replace(&mut self.connection, Held::Nothing) {
            self.connection = link.settled();
        }
        frame
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Held::Shared(shared) = &self.connection {
            let given_up = shared.link().take();
            shared.sender.wake();
            drop(given_up);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Frames {
        let this = self.get_mut();
        if let Some(fault) = this.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let frame = this.poll(cx);
        if let Poll::Ready(Some(Err(broken))) = frame {
            // hyper's server drops what it has not sent yet when a body breaks off. So that the client gets all that came
            // before, it may send that first.
            this.fault = Some(broken);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.connection {
            Held::Nothing => self.fault.is_none(),
            Held::Own(link) => link.decoder.is_over(),
            // When all has been read there is nothing more to hold.
            Held::Shared(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.connection {
            Held::Nothing => SizeHint::with_exact(0),
            Held::Own(link) => link.decoder.size_hint(),
            Held::Shared(shared) => {
                shared.link().as_ref().map_or_else(SizeHint::default, |link| link.decoder.size_hint())
            }
        }
    }
}
