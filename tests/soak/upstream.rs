//! An API server made for load: it verifies tokens as the stand-in does and answers from memory, at little cost.
//!
//! Each user has one namespace, named like the user. A request for it with anybody else's token is answered 403 and
//! counted, and a test fails that has such a count: under whatever load, nobody may act as somebody else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use standin::apiserver::Trust;
use standin::pki::Ca;
use standin::serve::{Body, Listener, full};
use standin::time::Time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tunnels;
use super::world::LOOPBACK;

/// A big list, and the pieces in which it is sent.
const BIG_LIST_BYTES: usize = 10_000_000;
const PIECE_BYTES: usize = 50_000;

pub(crate) struct Upstream {
    state: Arc<State>,
    tls: Arc<rustls::ServerConfig>,
    addr: SocketAddr,
    run: Mutex<Option<Run>>,
}

struct Run {
    listener: Listener,
    tunnels: CancellationToken,
}

struct State {
    trust: Trust,
    time: Time,
    /// Tokens that were verified, and whose they are.
    verified: RwLock<HashMap<HeaderValue, String>>,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
    small: Bytes,
    piece: Bytes,
    refused: AtomicUsize,
    served: AtomicUsize,
    lists_begun: AtomicUsize,
    big_bytes_sent: Arc<AtomicU64>,
}

/// The events of one namespace, each encoded once.
pub(crate) struct Topic {
    namespace: String,
    events: RwLock<Vec<Bytes>>,
    count: watch::Sender<usize>,
}

impl Upstream {
    pub(crate) async fn start(ca: &Ca, time: Time, trust: Trust) -> Self {
        let item = r#"{"metadata":{"name":"web","namespace":"team"},"spec":{"containers":[{"name":"c"}]}}"#;
        let items = [item; 10].join(",");
        let small =
            format!("{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"items\":[{items}]}}\n");
        let state = Arc::new(State {
            trust,
            time,
            verified: RwLock::default(),
            topics: RwLock::default(),
            small: small.into(),
            piece: vec![b' '; PIECE_BYTES].into(),
            refused: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            lists_begun: AtomicUsize::new(0),
            big_bytes_sent: Arc::default(),
        });
        let tls = ca.issue(&[]).unwrap().server_config().unwrap();
        let run = Run::start(LOOPBACK, &tls, &state).await;
        let addr = run.listener.addr();
        Self { state, tls, addr, run: Mutex::new(Some(run)) }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the port, every connection and every tunnel at once, as a killed process would.
    pub(crate) async fn kill(&self) {
        let run = self.run.lock().unwrap().take();
        if let Some(run) = run {
            run.listener.kill().await;
        }
    }

    /// Listens again on the same port.
    pub(crate) async fn restart(&self) {
        let run = Run::start(self.addr, &self.tls, &self.state).await;
        *self.run.lock().unwrap() = Some(run);
    }

    pub(crate) fn topic(&self, namespace: &str) -> Arc<Topic> {
        self.state.topic(namespace)
    }

    /// Requests that were answered as their user's.
    pub(crate) fn served(&self) -> usize {
        self.state.served.load(Ordering::Relaxed)
    }

    /// Big lists that were asked for.
    pub(crate) fn lists_begun(&self) -> usize {
        self.state.lists_begun.load(Ordering::Relaxed)
    }

    /// Bytes of big lists that connections took so far.
    pub(crate) fn big_bytes_sent(&self) -> u64 {
        self.state.big_bytes_sent.load(Ordering::Relaxed)
    }

    /// Has the next direct request with this value of `Authorization` pass as this user's.
    pub(crate) fn let_in(&self, authorization: HeaderValue, user: &str) {
        self.state.verified.write().unwrap().insert(authorization, user.to_owned());
    }

    /// # Panics
    /// When a request was not its user's.
    pub(crate) fn assert_nobody_was_taken_for_another(&self) {
        assert_eq!(self.state.refused.load(Ordering::Relaxed), 0, "requests that were not their user's");
    }
}

impl Run {
    async fn start(addr: SocketAddr, tls: &Arc<rustls::ServerConfig>, state: &Arc<State>) -> Self {
        let tunnels = CancellationToken::new();
        let (state, stop) = (state.clone(), tunnels.clone());
        let handler = move |request| state.clone().answer(request, stop.clone());
        let listener = Listener::start(addr, tls.clone(), handler).await.unwrap();
        Self { listener, tunnels }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.tunnels.cancel();
    }
}

impl State {
    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        stop: CancellationToken,
    ) -> anyhow::Result<Response<Body>> {
        let path = request.uri().path().to_owned();
        if path.ends_with("/selfsubjectreviews") {
            // What the portal asks about its visitor: of no user's namespace.
            return Ok(answer(StatusCode::NOT_FOUND, full("unknown\n")));
        }
        let namespace = path.split('/').nth(4).unwrap_or_default();
        if self.user(&request).as_deref() != Some(namespace) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(answer(StatusCode::FORBIDDEN, full("not yours\n")));
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        if let Some(protocol) = request.headers().get(UPGRADE).cloned() {
            return Ok(tunnel(protocol, hyper::upgrade::on(&mut request), stop));
        }
        // As the API server: what is to be created is read first.
        while let Some(Ok(_)) = request.body_mut().frame().await {}
        let body = match path.rsplit('/').next() {
            Some("configmaps") => self.topic(namespace).follow(),
            Some("secrets") => self.big_list(),
            _ => full(self.small.clone()),
        };
        Ok(answer(StatusCode::OK, body))
    }

    /// The first part of the user's name, if exactly one good token names one.
    fn user(&self, request: &Request<Incoming>) -> Option<String> {
        let mut presented = request.headers().get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (presented.next(), presented.next()) else { return None };
        if let Some(user) = self.verified.read().unwrap().get(value) {
            return Some(user.clone());
        }
        let user = self.trust.authenticate(request.headers(), self.time.unix(), None)?;
        let name = user.name.split('@').next()?.to_owned();
        self.verified.write().unwrap().insert(value.clone(), name.clone());
        Some(name)
    }

    fn topic(&self, namespace: &str) -> Arc<Topic> {
        if let Some(topic) = self.topics.read().unwrap().get(namespace) {
            return topic.clone();
        }
        let mut topics = self.topics.write().unwrap();
        let make = || {
            let (events, count) = (RwLock::default(), watch::Sender::new(0));
            Arc::new(Topic { namespace: namespace.to_owned(), events, count })
        };
        topics.entry(namespace.to_owned()).or_insert_with(make).clone()
    }

    fn big_list(&self) -> Body {
        self.lists_begun.fetch_add(1, Ordering::Relaxed);
        let start = (self.piece.clone(), self.big_bytes_sent.clone(), 0);
        let pieces = stream::unfold(start, |(piece, count, sent)| async move {
            let more = sent < BIG_LIST_BYTES;
            count.fetch_add(if more { PIECE_BYTES as u64 } else { 0 }, Ordering::Relaxed);
            more.then(|| (Ok(Frame::data(piece.clone())), (piece, count, sent + PIECE_BYTES)))
        });
        StreamBody::new(pieces).boxed_unsync()
    }
}

impl Topic {
    /// Publishes the next event.
    pub(crate) fn put(&self) {
        let mut events = self.events.write().unwrap();
        let (n, namespace, pad) = (events.len() + 1, &self.namespace, "x".repeat(400));
        let line = format!(
            "{{\"type\":\"MODIFIED\",\"object\":{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\
             \"settings\",\"namespace\":\"{namespace}\",\"resourceVersion\":\"{n}\"}},\"data\":{{\"pad\":\"{pad}\"}}}}}}\n"
        );
        events.push(line.into());
        self.count.send_replace(n);
    }

    /// The event of this number, from 0.
    pub(crate) fn event(&self, number: usize) -> Option<Bytes> {
        self.events.read().unwrap().get(number).cloned()
    }

    /// All events from the first, and then each as it comes.
    fn follow(self: Arc<Self>) -> Body {
        let count = self.count.subscribe();
        let events = stream::unfold((self, count, 0), |(topic, mut count, next)| async move {
            count.wait_for(|count| *count > next).await.ok()?;
            let event = topic.event(next)?;
            Some((Ok(Frame::data(event)), (topic, count, next + 1)))
        });
        StreamBody::new(events).boxed_unsync()
    }
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn tunnel(protocol: HeaderValue, upgrade: OnUpgrade, stop: CancellationToken) -> Response<Body> {
    let both_ways = protocol == "through";
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let tunnel = TokioIo::new(upgraded);
        if both_ways {
            tunnels::through(tunnel).await;
        } else {
            echo(tunnel).await;
        }
    }));
    let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, full(""));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}

/// Sends back what comes. The caller may close its half first and still read the rest.
async fn echo(mut tunnel: TokioIo<Upgraded>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = tunnel.read(&mut buffer).await {
        if tunnel.write_all(&buffer[..count]).await.is_err() || tunnel.flush().await.is_err() {
            return;
        }
    }
    let _gone = tunnel.shutdown().await;
}
