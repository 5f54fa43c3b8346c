//! Scripted failures of an endpoint, and a gate that holds its requests back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::watch;

use super::Entra;
use crate::serve::{Body, full};

/// What can be made to fail, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The OpenID configuration.
    Discovery,
    /// The key set.
    Keys,
    /// `/authorize`, without the chooser's own form.
    Authorize,
    /// `/token` with `grant_type=authorization_code` (or an unknown one).
    TokenCode,
    /// `/token` with `grant_type=refresh_token`.
    TokenRefresh,
}

/// One way to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An HTTP status with a JSON error body, or an HTML one, and `Retry-After` in seconds where given.
    Status {
        /// The status code.
        status: u16,
        /// `Retry-After`, seconds.
        retry_after: Option<u32>,
        /// Whether the body is a gateway's HTML page instead of JSON.
        html: bool,
    },
    /// An Entra error of this AADSTS number, with the status, `error`, `suberror` and claims that go with it.
    Error(u32),
    /// This status with no body at all.
    Empty(u16),
    /// Status 200 with a body of this many bytes of JSON white space.
    Oversize(usize),
    /// Status 200, the beginning of a body, then the connection breaks.
    Truncated,
    /// The right answer, this much later (real time).
    Delay(Duration),
    /// No answer, until the client gives up.
    Hang,
    /// The connection breaks before any answer.
    Reset,
}

impl Fault {
    /// A JSON error of this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None, html: false }
    }

    /// 429 with `Retry-After` in seconds.
    #[must_use]
    pub fn throttled(retry_after: u32) -> Self {
        Self::Status { status: 429, retry_after: Some(retry_after), html: false }
    }
}

/// What was scripted.
#[derive(Default)]
pub(crate) struct Faults {
    next: HashMap<Endpoint, VecDeque<Fault>>,
    always: HashMap<Endpoint, Fault>,
    gates: HashMap<Endpoint, Arc<Gate>>,
}

pub(crate) struct Gate {
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

/// Requests to one endpoint wait while this lives: a test can see them pile up without sleeping.
pub struct Hold {
    gate: Arc<Gate>,
}

/// What a fault comes down to.
pub(crate) enum Outcome {
    Answer(Response<Body>),
    Refuse(u32),
    Proceed,
}

impl Faults {
    pub(crate) fn gate(&self, endpoint: Endpoint) -> Option<Arc<Gate>> {
        self.gates.get(&endpoint).cloned()
    }

    pub(crate) fn take(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let queued = self.next.get_mut(&endpoint).and_then(VecDeque::pop_front);
        queued.or_else(|| self.always.get(&endpoint).cloned())
    }
}

impl Gate {
    pub(crate) async fn pass(&self) {
        self.arrived.send_modify(|count| *count += 1);
        // The sender lives as long as `self`, so this ends only when the gate opens.
        let mut open = self.open.subscribe();
        let _opened = open.wait_for(|open| *open).await;
    }
}

impl Hold {
    /// Waits until this many requests have come to the gate since it was closed.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.gate.arrived.subscribe();
        let _seen = arrived.wait_for(|arrived| *arrived >= count).await;
    }

    /// How many requests have come to the gate since it was closed.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.gate.arrived.borrow()
    }

    /// Lets them all through, and those that come later.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.open.send_replace(true);
    }
}

/// Plays a fault: fails, or answers, or lets the request proceed.
pub(crate) async fn play(fault: Option<Fault>) -> anyhow::Result<Outcome> {
    let Some(fault) = fault else { return Ok(Outcome::Proceed) };
    let json = "application/json; charset=utf-8";
    Ok(match fault {
        Fault::Status { status, retry_after, html } => {
            Outcome::Answer(status_answer(status, retry_after, html)?)
        }
        Fault::Error(code) => Outcome::Refuse(code),
        Fault::Empty(status) => Outcome::Answer(Response::builder().status(status).body(full(""))?),
        Fault::Oversize(length) => {
            let body = full(vec![b' '; length]);
            Outcome::Answer(Response::builder().header("content-type", json).body(body)?)
        }
        Fault::Truncated => {
            Outcome::Answer(Response::builder().header("content-type", json).body(truncated())?)
        }
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            Outcome::Proceed
        }
        Fault::Hang => std::future::pending().await,
        Fault::Reset => anyhow::bail!("a scripted reset"),
    })
}

fn status_answer(status: u16, retry_after: Option<u32>, html: bool) -> anyhow::Result<Response<Body>> {
    let mut answer = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
    }
    let (kind, body) = if html {
        (
            "text/html",
            format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"),
        )
    } else {
        let error = if status < 500 && status != 429 { "invalid_request" } else { "temporarily_unavailable" };
        let text = format!("The stand-in was told to answer {status}.");
        let body = serde_json::json!({"error": error, "error_description": text, "error_codes": []});
        ("application/json; charset=utf-8", body.to_string())
    };
    Ok(answer.header("content-type", kind).body(full(body))?)
}

/// A body that breaks off.
fn truncated() -> Body {
    let mut sent = false;
    let frames = std::iter::from_fn(move || {
        let frame = if sent {
            Err(anyhow::anyhow!("a scripted break"))
        } else {
            Ok(Frame::data(Bytes::from_static(b"{\"token_type\":\"Bearer\",")))
        };
        sent = true;
        Some(frame)
    });
    Frames(frames).boxed_unsync()
}

struct Frames<I>(I);

impl<I> http_body::Body for Frames<I>
where
    I: Iterator<Item = anyhow::Result<Frame<Bytes>>> + Unpin,
{
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<anyhow::Result<Frame<Bytes>>>> {
        std::task::Poll::Ready(self.0.next())
    }
}

impl Entra {
    /// Makes the next request to `endpoint` fail so; several calls queue up.
    pub fn fail_next(&self, endpoint: Endpoint, fault: Fault) {
        self.lock().faults.next.entry(endpoint).or_default().push_back(fault);
    }

    /// Makes every request to `endpoint` fail so, once what is queued was played.
    pub fn fail_always(&self, endpoint: Endpoint, fault: Fault) {
        self.lock().faults.always.insert(endpoint, fault);
    }

    /// Forgets every scripted failure, queued and lasting.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.next.clear();
        state.faults.always.clear();
    }

    /// Holds every request to `endpoint` back until the returned guard is dropped. They are counted on
    /// arrival; which failure they meet, if any, is decided when they go on.
    #[must_use]
    pub fn hold(&self, endpoint: Endpoint) -> Hold {
        let gate = Arc::new(Gate { open: watch::Sender::new(false), arrived: watch::Sender::new(0) });
        self.lock().faults.gates.insert(endpoint, Arc::clone(&gate));
        Hold { gate }
    }
}
