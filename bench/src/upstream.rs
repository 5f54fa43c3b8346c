//! An API server that answers from memory, at little cost: lists of any size, watches, tunnels.
//!
//! It verifies each token once, as AKS would, and then knows it by its hash. What does not bear such a token is answered
//! 401 and counted: a proxy that forgets to swap the token cannot look fast.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use standin::apiserver::Trust;
use standin::pki::Ca;
use standin::serve::{Body, Listener, full};
use standin::time::Time;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// The largest list.
const MOST_BYTES: usize = 13_000_000;
/// As the API server does: longer answers have no length in their head.
const CHUNKED_FROM_BYTES: usize = 2_049;
const CHUNK_BYTES: usize = 32 * 1024;

/// What each watch begins with.
pub const FIRST_EVENT: &[u8] =
    b"{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\"}}\n";

/// A running API server.
pub struct Upstream {
    state: Arc<State>,
    listener: Listener,
}

struct State {
    trust: Trust,
    time: Time,
    /// Hashes of the values of `Authorization` that were verified: ten thousand values would fill the caches that the
    /// proxy needs as well.
    verified: RwLock<HashSet<u64>>,
    hasher: RandomState,
    /// By the users' names.
    seen: Mutex<HashMap<String, HeaderValue>>,
    list: Bytes,
    events: Mutex<Vec<Bytes>>,
    newest: watch::Sender<usize>,
    sent_bytes: AtomicU64,
    refused: AtomicU64,
}

impl Upstream {
    /// Listens on a loopback port.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn start(ca: &Ca, time: Time, trust: Trust) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            trust,
            time,
            verified: RwLock::default(),
            hasher: RandomState::new(),
            seen: Mutex::default(),
            list: vec![b'x'; MOST_BYTES].into(),
            events: Mutex::default(),
            newest: watch::Sender::new(0),
            sent_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let shared = state.clone();
        let handler = move |request| {
            let state = shared.clone();
            async move { state.answer(request) }
        };
        let tls = ca.issue(&[])?.server_config()?;
        let listener = Listener::start(SocketAddr::from(([127, 0, 0, 1], 0)), tls, handler).await?;
        Ok(Self { state, listener })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Bytes of lists that were answered with so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.state.sent_bytes.load(Ordering::Relaxed)
    }

    /// Requests so far that bore no good token.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// The users who have come, each with the value of `Authorization` that they came with.
    #[must_use]
    pub fn seen(&self) -> HashMap<String, HeaderValue> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends one event of so many bytes to every watch.
    pub fn put_event(&self, bytes: usize) {
        let mut events = self.state.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, close) = ("{\"type\":\"MODIFIED\",\"object\":{\"pad\":\"", "\"}}\n");
        let pad = "x".repeat(bytes.saturating_sub(open.len() + close.len()));
        events.push(format!("{open}{pad}{close}").into());
        self.state.newest.send_replace(events.len());
    }
}

impl State {
    fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        if !self.is_let_in(&request) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(answer(StatusCode::UNAUTHORIZED, full("no good token\n")));
        }
        if let Some(protocol) = request.headers().get(UPGRADE).cloned() {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    echo(TokioIo::new(upgraded)).await;
                }
            });
            let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, full(""));
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            response.headers_mut().insert(UPGRADE, protocol);
            return Ok(response);
        }
        match request.uri().query().unwrap_or_default().split_once('=') {
            Some(("limit", bytes)) => Ok(answer(StatusCode::OK, self.list(bytes.parse()?))),
            Some(("watch", _)) => Ok(answer(StatusCode::OK, self.follow())),
            // Whatever else Entrada's portal asks for a user who signs in: it waits for the answer.
            _ => Ok(answer(StatusCode::NOT_FOUND, full("not here\n"))),
        }
    }

    fn is_let_in(&self, request: &Request<Incoming>) -> bool {
        let mut presented = request.headers().get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (presented.next(), presented.next()) else { return false };
        let hash = self.hasher.hash_one(value);
        if self.verified.read().unwrap_or_else(PoisonError::into_inner).contains(&hash) {
            return true;
        }
        let Some(user) = self.trust.authenticate(request.headers(), self.time.unix(), None) else {
            return false;
        };
        let name = user.name.split('@').next().unwrap_or_default().to_owned();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value.clone());
        self.verified.write().unwrap_or_else(PoisonError::into_inner).insert(hash);
        true
    }

    fn list(self: Arc<Self>, bytes: usize) -> Body {
        if bytes < CHUNKED_FROM_BYTES {
            self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            return full(self.list.slice(..bytes));
        }
        let chunks = stream::unfold(self.list.slice(..bytes), move |mut rest| {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            self.sent_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            std::future::ready((!chunk.is_empty()).then(|| (Ok(Frame::data(chunk)), rest)))
        });
        StreamBody::new(chunks).boxed_unsync()
    }

    /// What is there already, and then each event that comes from now on. (Before the first one, nginx does not pass on
    /// the head of an answer over HTTP/2.)
    fn follow(self: Arc<Self>) -> Body {
        let mut newest = self.newest.subscribe();
        let next = *newest.borrow_and_update();
        let events = stream::unfold((self, newest, next), |(state, mut newest, next)| async move {
            newest.wait_for(|count| *count > next).await.ok()?;
            let event = state.events.lock().unwrap_or_else(PoisonError::into_inner).get(next).cloned()?;
            Some((Ok(Frame::data(event)), (state, newest, next + 1)))
        });
        let first = std::future::ready(Ok(Frame::data(Bytes::from_static(FIRST_EVENT))));
        StreamBody::new(stream::once(first).chain(events)).boxed_unsync()
    }
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Sends back what comes.
async fn echo<T: AsyncRead + AsyncWrite + Unpin>(mut tunnel: T) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = tunnel.read(&mut buffer).await {
        if tunnel.write_all(&buffer[..count]).await.is_err() || tunnel.flush().await.is_err() {
            return;
        }
    }
}
