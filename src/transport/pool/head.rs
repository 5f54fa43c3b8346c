//! Heads: a request's is written, an answer's is read. `httparse` finds the parts of a head; what they mean for the
//! connection is decided here, by RFC 9112 sections 6.3 and 9.3, and what has two meanings is refused.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;

use super::super::TransportError;
use super::super::outgoing::Outgoing;
use super::decoder::Length;
use super::upload::Framing;
use crate::http::headers::list;

/// Of an answer's head. Each of the API server's has less than 2 KiB.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// Of a request: the words of its first line, and what frames its body.
const OTHER_HEAD_BYTES: usize = 64;
/// Of an answer: those that we add, mostly.
const ADDED_HEADERS: usize = 2;

/// An answer's head, and what follows it on the connection.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) length: Length,
    /// Whether the connection may carry another exchange after this one.
    pub(super) keeps_open: bool,
}

/// A request's head in HTTP/1.1, and how its body is framed: by its `Content-Length` where it has one or its length is
/// known, otherwise in chunks.
///
/// # Errors
/// When it says a length that is none, or that of a body which it does not have.
pub(super) fn write(head: &Parts, body: &Outgoing) -> Result<(Vec<u8>, Framing), TransportError> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let of_headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    // An AKS token alone has 2 KB.
    let mut text = Vec::with_capacity(OTHER_HEAD_BYTES + target.len() + of_headers.sum::<usize>());
    text.extend_from_slice(head.method.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        if name != TRANSFER_ENCODING {
            write_header(&mut text, name, value.as_bytes());
        }
    }
    let mut said = head.headers.get_all(CONTENT_LENGTH).into_iter();
    let length = said.next().map(|said| number(said).ok_or_else(wrong_length)).transpose()?;
    if said.next().is_some() {
        return Err(wrong_length());
    }
    let framing = match (length, body.size_hint().exact()) {
        (Some(1..), _) if body.is_empty() => return Err(wrong_length()),
        (Some(length), _) => Framing::Length(length),
        (None, Some(length)) => {
            if !body.is_empty() {
                write_header(&mut text, &CONTENT_LENGTH, length.to_string().as_bytes());
            }
            Framing::Length(length)
        }
        (None, None) => {
            write_header(&mut text, &TRANSFER_ENCODING, b"chunked");
            Framing::Chunked
        }
    };
    text.extend_from_slice(b"\r\n");
    Ok((text, framing))
}

fn write_header(text: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    text.extend_from_slice(name.as_str().as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// Whether a head may be whole, or is too long, that was not when it had `before` bytes: only then it is worth a look.
pub(super) fn may_be_whole(bytes: &[u8], before: usize) -> bool {
    let new = bytes.get(before.saturating_sub(3)..).unwrap_or_default();
    // httparse takes a newline alone as the end of a line, too.
    before == 0
        || bytes.len() >= MAX_HEAD_BYTES
        || new.windows(2).any(|end| end == b"\n\n")
        || new.windows(3).any(|end| end == b"\n\r\n")
}

impl Head {
    /// Reads the head that `bytes` begin with, and tells its length; nothing where it is not whole. The values of its headers
    /// share the memory of `bytes`.
    ///
    /// # Errors
    /// When it is none, or leaves open where the answer ends.
    pub(super) fn read(bytes: &Bytes, to_head: bool) -> Result<Option<(Self, usize)>, TransportError> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let end = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(broken("its head is too long")),
            Err(error) => return Err(TransportError::Broken(error.to_string())),
        };
        let status = StatusCode::from_u16(parsed.code.unwrap_or_default());
        let status = status.map_err(|_| broken("its status is none"))?;
        let mut response = Response::new(());
        *response.status_mut() = status;
        let said = response.headers_mut();
        said.reserve(parsed.headers.len() + ADDED_HEADERS);
        for header in parsed.headers.iter() {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value));
            let (Ok(name), Ok(value)) = (name, value) else { return Err(broken("a header makes no sense")) };
            said.append(name, value);
        }
        let is_usual = |reason: &&str| status.canonical_reason() == Some(*reason);
        if let Some(reason) = parsed.reason.filter(|reason| !reason.is_empty() && !is_usual(reason))
            && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
        {
            response.extensions_mut().insert(reason);
        }
        let is_old = parsed.version != Some(1);
        let closes = is_old || closes(response.headers());
        let length = length(status, response.headers_mut(), to_head)?;
        if is_old && length == Length::Chunked {
            return Err(broken("HTTP/1.0 has no chunks"));
        }
        let keeps_open = !closes && length != Length::UntilClosed;
        Ok(Some((Self { response, length, keeps_open }, end)))
    }

    /// Another head comes behind this one, for the same request.
    pub(super) fn is_interim(&self) -> bool {
        let status = self.response.status();
        status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
    }
}

fn closes(headers: &HeaderMap) -> bool {
    list(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"close"))
}

/// What follows the head. A `Content-Length` is left in `headers` once, and only where it is true.
fn length(status: StatusCode, headers: &mut HeaderMap, to_head: bool) -> Result<Length, TransportError> {
    let has_no_body = to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_no_body {
        return Ok(Length::Exact(0));
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = headers.get_all(TRANSFER_ENCODING).into_iter();
        let is_chunked =
            codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !is_chunked || codings.next().is_some() {
            return Err(broken("its transfer coding is not known"));
        }
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(broken("it has a length and comes in chunks"));
        }
        return Ok(Length::Chunked);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).into_iter();
    let Some(first) = lengths.next() else { return Ok(Length::UntilClosed) };
    let (Some(length), true) = (number(first), lengths.all(|other| other == first)) else {
        return Err(broken("its length is none"));
    };
    if headers.get_all(CONTENT_LENGTH).into_iter().nth(1).is_some() {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(Length::Exact(length))
}

/// Digits alone: no sign, no list.
fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

pub(super) fn wrong_length() -> TransportError {
    TransportError::ClientGone("the body has another length than it said".to_owned())
}

pub(super) fn broken(why: &str) -> TransportError {
    TransportError::Broken(why.to_owned())
}
