//! A request on its way out: its head, then its body as it comes.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::request::Parts;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::super::TransportError;
use super::super::outgoing::Outgoing;
use super::{broken_io, head};

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How the end of a request's body is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

/// What of a request is still to be sent.
#[derive(Debug)]
pub(super) struct Upload {
    /// The head, or a chunk's first line.
    text: Vec<u8>,
    sent_text: usize,
    data: Bytes,
    /// Behind the data.
    tail: &'static [u8],
    body: Outgoing,
    framing: Framing,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There may be more of the body.
    Open,
    /// All that is left is in `text`, `data` and `tail`.
    Last,
    /// All has been sent.
    Over,
}

impl Upload {
    /// Nothing is to be sent.
    pub(super) fn nothing() -> Self {
        Self {
            text: Vec::new(),
            sent_text: 0,
            data: Bytes::new(),
            tail: &[],
            body: Outgoing::Empty,
            framing: Framing::Length(0),
            state: State::Over,
        }
    }

    /// # Errors
    /// When the request cannot be written.
    pub(super) fn new(head: &Parts, body: Outgoing) -> Result<Self, TransportError> {
        let (text, framing) = head::write(head, &body)?;
        let state = if body.is_empty() { State::Last } else { State::Open };
        Ok(Self { text, body, framing, state, ..Self::nothing() })
    }

    /// Whether nothing is left to be sent.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Sends what can be sent; ready when that was all of it.
    ///
    /// # Errors
    /// [`TransportError::ClientGone`] when the client's body breaks off or has another length than it said; any other when
    /// the server takes no more.
    pub(super) fn poll(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        while self.state != State::Over {
            ready!(self.poll_write(stream, cx)).map_err(|error| broken_io(&error))?;
            if self.state == State::Last {
                ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(|error| broken_io(&error))?;
                // With all that it held.
                *self = Self::nothing();
                break;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => self.take(frame)?,
                Poll::Pending => {
                    // The next part may be long in coming: what TLS still holds goes out meanwhile.
                    if let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(cx) {
                        return Poll::Ready(Err(broken_io(&error)));
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is at hand.
    fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let text = self.text.get(self.sent_text..).unwrap_or_default();
            let parts = [text, self.data.as_ref(), self.tail];
            if parts.iter().all(|part| part.is_empty()) {
                return Poll::Ready(Ok(()));
            }
            let mut written =
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &parts.map(IoSlice::new)))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let [of_text, of_data, of_tail] = parts.map(|part| {
                let of_part = written.min(part.len());
                written -= of_part;
                of_part
            });
            self.sent_text += of_text;
            self.data.advance(of_data);
            self.tail = self.tail.get(of_tail..).unwrap_or_default();
        }
    }

    /// Takes the next part of the body, when all before it is written.
    fn take(&mut self, frame: Option<hyper::Result<Frame<Bytes>>>) -> Result<(), TransportError> {
        let frame = frame.transpose().map_err(|error| TransportError::ClientGone(error.to_string()))?;
        let is_last = frame.is_none() || self.body.is_empty();
        // Trailers go no further: the header that announces them belongs to the client's connection.
        self.data = frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        self.text.clear();
        self.sent_text = 0;
        match &mut self.framing {
            Framing::Length(left) => {
                let rest = left.checked_sub(self.data.len() as u64).filter(|rest| *rest == 0 || !is_last);
                *left = rest.ok_or_else(head::wrong_length)?;
            }
            Framing::Chunked => {
                if !self.data.is_empty() {
                    // Into memory: it does not fail.
                    let _written = write!(self.text, "{:x}\r\n", self.data.len());
                    self.tail = if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                } else if is_last {
                    self.tail = LAST_CHUNK;
                }
            }
        }
        if is_last {
            self.state = State::Last;
        }
        Ok(())
    }
}
