//! A web server that audit events are posted to: it takes lists of them as an API server's webhook backend sends them,
//! and can be slow, broken or away.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::pki::Ca;
use crate::serve::{Body, Listener, full};

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It takes what it is sent.
    #[default]
    Well,
    /// It takes what it is sent, and answers only when its mood is another one.
    Slow,
    /// It answers with this status and takes nothing.
    Broken(u16),
    /// It takes what it is sent, but says 413 to lists of more than so many bytes, as a proxy before it may.
    Narrow(usize),
}

/// One list that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its events.
    pub events: Vec<Value>,
    /// The `Authorization` header that came with it.
    pub authorization: Option<String>,
}

/// A running collector. Dropping it closes its port.
pub struct Collector {
    tls: Arc<rustls::ServerConfig>,
    addr: SocketAddr,
    listener: Mutex<Option<Listener>>,
    seen: Seen,
}

#[derive(Clone)]
struct Seen {
    mood: Arc<watch::Sender<Mood>>,
    taken: Arc<watch::Sender<Vec<Taken>>>,
    attempts: Arc<watch::Sender<usize>>,
}

impl Collector {
    /// Starts on `addr` (port 0: any free one) with a certificate of `ca`.
    ///
    /// # Errors
    /// When a certificate cannot be made, or the port cannot be opened.
    pub async fn start(addr: SocketAddr, ca: &Ca) -> anyhow::Result<Self> {
        let tls = ca.issue(&[])?.server_config()?;
        let seen = Seen { mood: Arc::default(), taken: Arc::default(), attempts: Arc::default() };
        let listener = listen(addr, &tls, &seen).await?;
        let addr = listener.addr();
        Ok(Self { tls, addr, listener: Mutex::new(Some(listener)), seen })
    }

    /// Where events are posted to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/audit", self.addr.port())
    }

    /// How it answers from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.seen.mood.send_replace(mood);
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
        let listener = listen(self.addr, &self.tls, &self.seen).await?;
        *self.listener.lock().await = Some(listener);
        Ok(())
    }

    /// How many lists were sent to it, taken or not.
    #[must_use]
    pub fn attempts(&self) -> usize {
        *self.seen.attempts.borrow()
    }

    /// Waits until so many lists were sent to it.
    pub async fn attempted(&self, count: usize) {
        // The sender lives in `self`: this cannot fail.
        let mut attempts = self.seen.attempts.subscribe();
        let _reached = attempts.wait_for(|attempts| *attempts >= count).await;
    }

    /// The lists that were taken.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.seen.taken.borrow().clone()
    }

    /// The events that were taken, in the order in which they came.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.taken().into_iter().flat_map(|taken| taken.events).collect()
    }

    /// Waits until so many events were taken.
    pub async fn received(&self, count: usize) {
        let all = |taken: &Vec<Taken>| taken.iter().map(|taken| taken.events.len()).sum::<usize>();
        let mut taken = self.seen.taken.subscribe();
        let _reached = taken.wait_for(|taken| all(taken) >= count).await;
    }
}

async fn listen(addr: SocketAddr, tls: &Arc<rustls::ServerConfig>, seen: &Seen) -> anyhow::Result<Listener> {
    let seen = seen.clone();
    let handler = move |request| {
        let seen = seen.clone();
        async move { seen.take(request).await }
    };
    Listener::start(addr, tls.clone(), handler).await
}

impl Seen {
    async fn take(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        self.attempts.send_modify(|attempts| *attempts += 1);
        let mut mood = self.mood.subscribe();
        let mood = *mood.wait_for(|mood| *mood != Mood::Slow).await?;
        let status = match mood {
            Mood::Broken(status) => StatusCode::from_u16(status)?,
            Mood::Narrow(most) if body.len() > most => StatusCode::PAYLOAD_TOO_LARGE,
            Mood::Well | Mood::Narrow(_) | Mood::Slow => match events(&head.headers, &body) {
                Ok(events) => {
                    let authorization = head.headers.get(AUTHORIZATION);
                    let authorization =
                        authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
                    self.taken.send_modify(|all| all.push(Taken { events, authorization }));
                    StatusCode::OK
                }
                Err(_) => StatusCode::BAD_REQUEST,
            },
        };
        let mut response = Response::new(full(""));
        *response.status_mut() = status;
        Ok(response)
    }
}

/// The events of a list, if it is one as the real backend sends it.
fn events(headers: &http::HeaderMap, body: &[u8]) -> anyhow::Result<Vec<Value>> {
    anyhow::ensure!(headers.get(CONTENT_TYPE).is_some_and(|value| value == "application/json"), "no JSON");
    let list: Value = serde_json::from_slice(body)?;
    let is = |value: &Value, kind: &str| value["kind"] == kind && value["apiVersion"] == "audit.k8s.io/v1";
    anyhow::ensure!(is(&list, "EventList") && list["metadata"].is_object(), "no list of events");
    let events = list["items"].as_array().context("no items")?.clone();
    anyhow::ensure!(!events.is_empty() && events.len() <= 400, "too few or too many");
    anyhow::ensure!(events.iter().all(|event| is(event, "Event")), "something else than events");
    Ok(events)
}
