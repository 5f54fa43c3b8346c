//! Scripted misbehaviour, by path prefix.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;

use super::call::stream;
use crate::serve::{Body, Wire, full};

/// One way to misbehave. Several for one path add up.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Waits before the head of the answer.
    DelayHead(Duration),
    /// Breaks the connection without an answer.
    NoAnswer,
    /// Sends this text as it is, where an answer should be, and breaks the connection.
    Garbage(String),
    /// Answers this status and this body (as `text/plain`) instead of doing anything.
    Answer(StatusCode, String),
    /// Adds a header to the answer, upgrades included.
    Header(HeaderName, HeaderValue),
    /// Breaks the connection after so many bytes of the body.
    ResetBody(usize),
    /// Sends the body in pieces of so many bytes, with a pause before each.
    SlowBody(usize, Duration),
}

/// The faults that were scripted.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Scripted>>);

struct Scripted {
    prefix: String,
    fault: Fault,
    /// How often it still strikes; nothing means for ever.
    left: Option<usize>,
}

/// What one request will suffer.
pub(crate) struct Script(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&self, prefix: &str, fault: Fault, times: Option<usize>) {
        self.edit(|all| all.push(Scripted { prefix: prefix.to_owned(), fault, left: times }));
    }

    pub(crate) fn clear(&self) {
        self.edit(Vec::clear);
    }

    /// The faults for a request of this path, counting them down.
    pub(crate) fn strike(&self, path: &str) -> Script {
        self.edit(|all| {
            let mut struck = Vec::new();
            for own in all.iter_mut().filter(|own| path.starts_with(&own.prefix)) {
                struck.push(own.fault.clone());
                own.left = own.left.map(|left| left.saturating_sub(1));
            }
            all.retain(|own| own.left != Some(0));
            Script(struck)
        })
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Vec<Scripted>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Script {
    /// Waits as scripted; then the answer that stands instead of the real one, if any.
    ///
    /// # Errors
    /// When the connection shall break.
    pub(crate) async fn before(&self, wire: &Wire) -> anyhow::Result<Option<Response<Body>>> {
        for fault in &self.0 {
            match fault {
                Fault::DelayHead(delay) => tokio::time::sleep(*delay).await,
                Fault::NoAnswer => anyhow::bail!("scripted to break without an answer"),
                Fault::Garbage(text) => {
                    wire.spoil(text.clone());
                    return Ok(Some(Response::new(full(""))));
                }
                Fault::Answer(code, text) => {
                    let mut response = Response::new(full(text.clone()));
                    *response.status_mut() = *code;
                    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
                    return Ok(Some(response));
                }
                Fault::Header(..) | Fault::ResetBody(_) | Fault::SlowBody(..) => {}
            }
        }
        Ok(None)
    }

    /// Spoils an answer as scripted. (A tunnel has no body to spoil.)
    pub(crate) fn after(&self, mut response: Response<Body>) -> Response<Body> {
        let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        for fault in &self.0 {
            match fault {
                Fault::ResetBody(_) | Fault::SlowBody(..) if is_tunnel => {}
                Fault::Header(name, value) => {
                    response.headers_mut().append(name.clone(), value.clone());
                }
                Fault::ResetBody(bytes) => response = response.map(|body| cut(body, *bytes)),
                Fault::SlowBody(bytes, pause) => response = response.map(|body| slowed(body, *bytes, *pause)),
                Fault::DelayHead(_) | Fault::NoAnswer | Fault::Garbage(_) | Fault::Answer(..) => {}
            }
        }
        response
    }
}

fn cut(body: Body, at: usize) -> Body {
    let start = (body.into_data_stream(), at);
    stream(futures_util::stream::unfold(start, |(mut data, left)| async move {
        if left == 0 {
            // Being not ready once makes the connection flush what it holds.
            tokio::task::yield_now().await;
            return Some((Err(anyhow::anyhow!("scripted to break in the body")), (data, left)));
        }
        let chunk = data.next().await?;
        let chunk = chunk.map(|bytes: Bytes| bytes.slice(..bytes.len().min(left)));
        let taken = chunk.as_ref().map_or(0, Bytes::len);
        Some((chunk, (data, left - taken)))
    }))
}

fn slowed(body: Body, piece: usize, pause: Duration) -> Body {
    let start = (body.into_data_stream(), Bytes::new());
    stream(futures_util::stream::unfold(start, move |(mut data, mut rest)| async move {
        while rest.is_empty() {
            match data.next().await? {
                Ok(bytes) => rest = bytes,
                Err(error) => return Some((Err(error), (data, rest))),
            }
        }
        tokio::time::sleep(pause).await;
        let now = rest.split_to(rest.len().min(piece.max(1)));
        Some((Ok(now), (data, rest)))
    }))
}
