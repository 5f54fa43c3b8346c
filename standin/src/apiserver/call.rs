//! One request on its way to an answer: who, what, and how the answer shall look.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Serialize;
use serde_json::Value;

use super::auth::User;
use super::protobuf;
use super::query::Query;
use super::record::Entry;
use super::status::Failure;
use super::target::Target;
use crate::serve::{Body, full};

/// Bodies from this size on go out in chunks, as Go's server does it for answers it did not buffer whole.
const CHUNKED_FROM_BYTES: usize = 2048;

/// The largest body that is read.
const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;

pub(crate) type Answer = Result<Response<Body>, Failure>;

/// A request that was authenticated and authorized.
pub(crate) struct Call {
    pub(crate) head: Parts,
    pub(crate) body: Option<Incoming>,
    pub(crate) query: Query,
    pub(crate) target: Target,
    /// Whom the request acts as.
    pub(crate) user: User,
    /// Its place in the record; a tunnel keeps it for as long as it lives.
    pub(crate) entry: Entry,
}

impl Call {
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The object in the body: JSON, or protobuf of the kinds that [`protobuf`] knows.
    pub(crate) async fn read_object(&mut self) -> Result<Value, Failure> {
        let sent = self.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let sent = sent.unwrap_or("application/json").to_owned();
        let bytes = self.read_body().await?;
        if sent.starts_with("application/vnd.kubernetes.protobuf") {
            return protobuf::read(&bytes).ok_or_else(|| Failure::unsupported_media_type(&sent));
        }
        if !sent.starts_with("application/json") {
            return Err(Failure::unsupported_media_type(&sent));
        }
        serde_json::from_slice(&bytes).map_err(|error| Failure::bad_request(error.to_string()))
    }

    pub(crate) async fn read_body(&mut self) -> Result<Bytes, Failure> {
        let Some(body) = self.body.take() else { return Ok(Bytes::new()) };
        let limited = http_body_util::Limited::new(body, BODY_LIMIT_BYTES);
        match limited.collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(Failure::bad_request(error.to_string())),
        }
    }

    pub(crate) fn json(&self, code: StatusCode, value: &impl Serialize) -> Response<Body> {
        json(code, value, is_for_eyes(&self.head, &self.query))
    }

    pub(crate) fn ok(&self, value: &impl Serialize) -> Answer {
        Ok(self.json(StatusCode::OK, value))
    }
}

/// True where the real server indents: `pretty`, or a caller that shows the answer to a person.
pub(crate) fn is_for_eyes(head: &Parts, query: &Query) -> bool {
    if query.get("pretty").is_some() {
        return query.flag("pretty");
    }
    let agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|eyes| agent.starts_with(eyes))
}

/// A JSON answer; indented for people, on one line for programs.
pub(crate) fn json(code: StatusCode, value: &impl Serialize, is_indented: bool) -> Response<Body> {
    let mut text = if is_indented { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) }
        .expect("an answer is made of maps with string keys");
    if !is_indented {
        text.push(b'\n');
    }
    let mut response = bytes(code, "application/json", text);
    if code == StatusCode::FORBIDDEN {
        response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    }
    response
}

/// An answer of some other type.
pub(crate) fn bytes(code: StatusCode, media_type: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let content = content.into();
    let body = if content.len() < CHUNKED_FROM_BYTES {
        full(content)
    } else {
        stream(futures_util::stream::iter([Ok(content)]))
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A body of unknown length.
pub(crate) fn stream<S>(chunks: S) -> Body
where
    S: futures_util::Stream<Item = anyhow::Result<Bytes>> + Send + 'static,
{
    use futures_util::StreamExt;
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// A streamed answer.
pub(crate) fn streaming<S>(media_type: &'static str, chunks: S) -> Response<Body>
where
    S: futures_util::Stream<Item = anyhow::Result<Bytes>> + Send + 'static,
{
    let mut response = bytes(StatusCode::OK, media_type, Bytes::new());
    *response.body_mut() = stream(chunks);
    response
}
