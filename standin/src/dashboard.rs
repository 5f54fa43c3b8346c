//! Dashboards that stand behind Entrada: each takes the bearer that comes with a request as the real one does, and asks
//! its API server with it. They write down everything that they were ever sent, as a dishonest one would.
//!
//! What the real ones do, with the places in their source, is in `docs/dashboards/`. What is left out: all that has to
//! do with neither the bearer nor the way to the API server. The two that have a page show who is signed in, the pods of
//! `?namespace=`, what changes, and the answer of a program that is run in the pod `web`.

mod headlamp;
mod kubernetes_dashboard;
mod terminal;
mod upstream;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use tokio::sync::watch;

use self::terminal::Terminals;
use self::upstream::Upstream;
use crate::serve::{Body, Listener, Wire, full};

/// Which program it is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Headlamp: hands each request for `/clusters/main/…` on.
    Headlamp,
    /// Kubernetes Dashboard 7: asks by itself, and shows what it has made of the answers.
    KubernetesDashboard,
    /// A web server with this page at every path, which hands requests for the API on.
    Page(String),
}

/// How it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// When its mood is another one.
    Slow,
    /// With half of an answer, and then the connection breaks.
    Breaks,
    /// With this in place of HTTP.
    Nonsense(Bytes),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Its headers, in order; bytes that are no UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
}

/// A running dashboard. Dropping it closes its port.
pub struct Dashboard {
    addr: SocketAddr,
    listener: tokio::sync::Mutex<Option<Listener>>,
    program: Arc<Program>,
}

/// What outlives a restart of the listener.
struct Program {
    kind: Kind,
    upstream: OnceLock<Upstream>,
    heard: Mutex<Vec<Heard>>,
    mood: watch::Sender<Mood>,
    terminals: Terminals,
}

impl Dashboard {
    /// Starts one on `addr` (port 0: any free one), without TLS, as they are inside a cluster.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start(addr: SocketAddr, kind: Kind) -> anyhow::Result<Self> {
        let program = Arc::new(Program {
            kind,
            upstream: OnceLock::new(),
            heard: Mutex::default(),
            mood: watch::Sender::default(),
            terminals: Terminals::default(),
        });
        let listener = listen(addr, &program).await?;
        let addr = listener.addr();
        Ok(Self { addr, listener: tokio::sync::Mutex::new(Some(listener)), program })
    }

    /// Where it listens: `http://127.0.0.1:1234`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Tells it, once, where its API server is, and which authority (PEM) vouches for that.
    ///
    /// # Errors
    /// When the address is not https, or the PEM holds no certificate.
    pub fn use_api_server(&self, url: &str, ca_pem: &str) -> anyhow::Result<()> {
        let upstream = Upstream::new(url, ca_pem)?;
        self.program.upstream.set(upstream).map_err(|_| anyhow::anyhow!("it has an API server"))
    }

    /// How it answers from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.program.mood.send_replace(mood);
    }

    /// Closes the port and every connection.
    pub async fn kill(&self) {
        if let Some(listener) = self.listener.lock().await.take() {
            listener.kill().await;
        }
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// When somebody else has taken it.
    pub async fn revive(&self) -> anyhow::Result<()> {
        let listener = listen(self.addr, &self.program).await?;
        *self.listener.lock().await = Some(listener);
        Ok(())
    }

    /// Every request that ever came.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.program.heard().clone()
    }

    /// The bearers that ever came, each once, in the order in which they came first.
    #[must_use]
    pub fn bearers(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for heard in self.program.heard().iter() {
            let bearers = heard.values("authorization").filter_map(|value| value.strip_prefix("Bearer "));
            for bearer in bearers {
                if !all.iter().any(|known| known == bearer) {
                    all.push(bearer.to_owned());
                }
            }
        }
        all
    }
}

impl Heard {
    /// The values of a header, by its name in lower case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

async fn listen(addr: SocketAddr, program: &Arc<Program>) -> anyhow::Result<Listener> {
    let program = Arc::clone(program);
    Listener::start_plain(addr, move |request| Arc::clone(&program).handle(request)).await
}

impl Program {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        self.hear(&request);
        let mood = self.mood.borrow().clone();
        match mood {
            Mood::Well => {}
            Mood::Slow => {
                let mut moods = self.mood.subscribe();
                // The sender lives in `self`: this cannot fail.
                moods.wait_for(|mood| *mood != Mood::Slow).await.map(drop)?;
            }
            Mood::Breaks => return Ok(half()),
            Mood::Nonsense(bytes) => {
                request.extensions().get::<Wire>().context("a listener of ours")?.spoil(bytes);
                return Ok(Response::new(full("")));
            }
        }
        match &self.kind {
            Kind::Headlamp => headlamp::answer(&self, request).await,
            Kind::KubernetesDashboard => kubernetes_dashboard::answer(&self, request).await,
            Kind::Page(_) if is_for_api(request.uri().path()) => own_page_asks(&self, request).await,
            Kind::Page(html) => Ok(page(html)),
        }
    }

    fn hear(&self, request: &Request<Incoming>) {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        let heard = Heard {
            method: request.method().to_string(),
            target: request.uri().to_string(),
            headers: headers.collect(),
        };
        self.heard().push(heard);
    }

    fn heard(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upstream(&self) -> anyhow::Result<&Upstream> {
        self.upstream.get().context("it was not told its API server")
    }
}

fn is_for_api(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/apis/")
}

/// As the web server of `manifests/dashboards/own-page` does it.
async fn own_page_asks(program: &Program, mut request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    request.headers_mut().remove(COOKIE);
    program.upstream()?.hand_on(request).await
}

/// Its HTML, with a cookie of its own beside it.
fn page(html: &str) -> Response<Body> {
    let mut response = Response::new(full(html.to_owned()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.append(SET_COOKIE, HeaderValue::from_static("theme=dark; Path=/; SameSite=Lax"));
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The head of a page and its beginning; when that is sent, the connection breaks.
fn half() -> Response<Body> {
    let chunks = futures_util::stream::unfold(true, |is_first| async move {
        if is_first {
            return Some((Ok(Frame::data(Bytes::from("<h1>The beginning"))), false));
        }
        // While it waits, hyper sends what it has.
        tokio::task::yield_now().await;
        Some((Err(anyhow::anyhow!("broken")), false))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// The bearer of a request.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").filter(|token| !token.is_empty()).map(str::to_owned)
}
