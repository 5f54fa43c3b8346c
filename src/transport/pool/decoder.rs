//! Where an answer's body ends, and what of the bytes on the connection belongs to it.

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::super::TransportError;
use super::head::broken;

/// Of a chunk's first line with its extensions, which mean nothing to us, and of all trailers.
const MAX_LINE_BYTES: usize = 16 * 1024;
const MAX_TRAILERS: usize = 64;

/// What an answer's head says of the length of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Exact(u64),
    Chunked,
    /// To the end of the connection.
    UntilClosed,
}

/// Takes a body out of the bytes that come.
#[derive(Debug)]
pub(super) struct Decoder(State);

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are to come.
    Rest(u64),
    UntilClosed,
    /// A chunk's first line is to come.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The end of line behind a chunk.
    ChunkEnd,
    /// After the last chunk.
    Trailers,
    Over,
}

impl Decoder {
    pub(super) fn new(length: Length) -> Self {
        Self(match length {
            Length::Exact(0) => State::Over,
            Length::Exact(bytes) => State::Rest(bytes),
            Length::Chunked => State::Size,
            Length::UntilClosed => State::UntilClosed,
        })
    }

    /// Whether all of the body has been taken, with what ends it.
    pub(super) fn is_over(&self) -> bool {
        self.0 == State::Over
    }

    /// What is known of what is still to be taken.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self.0 {
            State::Rest(bytes) => SizeHint::with_exact(bytes),
            State::Over => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    /// The next part of the body, if it is there. What ends the body is taken with the last part, where it is there, too.
    ///
    /// # Errors
    /// When the bytes make no sense.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Frame<Bytes>>, TransportError> {
        self.pass_framing(bytes)?;
        if self.0 == State::Trailers {
            return Ok(self.trailers(bytes)?.map(Frame::trailers));
        }
        let left = match self.0 {
            State::Rest(left) | State::Chunk(left) => left,
            State::UntilClosed => u64::MAX,
            _ => return Ok(None),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let data = bytes.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
        let left = left - data.len() as u64;
        self.0 = match self.0 {
            State::UntilClosed => State::UntilClosed,
            State::Rest(_) if left == 0 => State::Over,
            State::Rest(_) => State::Rest(left),
            _ if left == 0 => State::ChunkEnd,
            _ => State::Chunk(left),
        };
        // What makes no sense is told with the next part.
        let _told_then = self.pass_framing(bytes);
        Ok(Some(Frame::data(data)))
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When the body has not.
    pub(super) fn closed(&mut self) -> Result<(), TransportError> {
        if !matches!(self.0, State::UntilClosed | State::Over) {
            return Err(TransportError::HungUp("the answer broke off".to_owned()));
        }
        self.0 = State::Over;
        Ok(())
    }

    /// Passes over what is between two chunks, and behind the last one, as far as it is there.
    fn pass_framing(&mut self, bytes: &mut Bytes) -> Result<(), TransportError> {
        loop {
            self.0 = match (&self.0, bytes.as_ref()) {
                (State::ChunkEnd, [b'\r', b'\n', ..]) => {
                    bytes.advance(2);
                    State::Size
                }
                (State::ChunkEnd, [] | [b'\r']) => return Ok(()),
                (State::ChunkEnd, _) => return Err(broken("a chunk is longer than it said")),
                (State::Size, [first, ..]) => {
                    let Some((line, size)) = chunk_size(*first, bytes)? else { return Ok(()) };
                    bytes.advance(line);
                    if size == 0 { State::Trailers } else { State::Chunk(size) }
                }
                (State::Trailers, [b'\r', b'\n', ..]) => {
                    bytes.advance(2);
                    State::Over
                }
                _ => return Ok(()),
            };
        }
    }

    fn trailers(&mut self, bytes: &mut Bytes) -> Result<Option<HeaderMap>, TransportError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let (end, parsed) = match httparse::parse_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(complete)) => complete,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_LINE_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(broken("its trailers are too long")),
            Err(error) => return Err(TransportError::Broken(error.to_string())),
        };
        // httparse takes a newline alone as the end of a line, too.
        let text = bytes.get(..end).unwrap_or_default();
        if text.split_inclusive(|byte| *byte == b'\n').any(|line| !line.ends_with(b"\r\n")) {
            return Err(broken("a trailer's line has no end"));
        }
        let mut trailers = HeaderMap::with_capacity(parsed.len());
        for header in parsed {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) else {
                return Err(broken("a trailer makes no sense"));
            };
            trailers.append(name, value);
        }
        bytes.advance(end);
        self.0 = State::Over;
        Ok(Some(trailers))
    }
}

/// A chunk's first line: its length and the chunk's, if all of it is there.
fn chunk_size(first: u8, bytes: &[u8]) -> Result<Option<(usize, u64)>, TransportError> {
    // httparse takes an empty line for a size of 0.
    if !first.is_ascii_hexdigit() {
        return Err(broken("a chunk has no size"));
    }
    let (line, size) = match httparse::parse_chunk_size(bytes) {
        Ok(httparse::Status::Complete((line, size))) => (line, Some(size)),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_LINE_BYTES => (bytes.len(), None),
        _ => return Err(broken("a chunk's size is none")),
    };
    // And it passes over the end of a line within an extension, where another reader sees the line's end.
    let extension = bytes.get(..line.saturating_sub(2)).unwrap_or_default();
    if extension.contains(&b'\n') {
        return Err(broken("a chunk's extension has two lines"));
    }
    Ok(size.map(|size| (line, size)))
}
