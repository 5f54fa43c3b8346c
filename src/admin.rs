//! The management listener: `/livez`, `/readyz`, `/metrics`, in plain HTTP, never on the public port.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::entra::Entra;
use crate::metrics::Metrics;
use crate::session::{SessionStore, StoreState};
use crate::shutdown::Shutdown;

/// Probes and scrapers send a head at once, or are none.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A scraper that asks every few seconds connects anew after this; a client that reads no answers loses its seat.
const CONNECTION_LIVES: Duration = Duration::from_secs(60);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Probes and scrapers are few.
const MAX_CONNECTIONS: usize = 64;

/// What the management listener tells.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Ready needs discovery and keys.
    pub(crate) entra: Arc<Entra>,
    /// Rendered on demand.
    pub(crate) metrics: Arc<Metrics>,
    /// Counted when metrics are rendered.
    pub(crate) store: Arc<dyn SessionStore>,
    /// Time.
    pub(crate) clock: Clock,
    /// Set first thing at a graceful stop, so that no new clients are sent here.
    pub(crate) draining: Arc<AtomicBool>,
}

impl Admin {
    /// Serves until the hard stop: probes and scrapers are answered during the whole drain.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: Shutdown) {
        let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // No file descriptors, mostly: a moment for some to be closed, instead of a busy loop.
                let _pause = tokio::time::timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
                continue;
            };
            let Ok(seat) = seats.clone().try_acquire_owned() else { continue };
            let this = self.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let this = this.clone();
                async move { Ok::<_, Infallible>(this.respond(request.method(), request.uri().path()).await) }
            });
            let clock = self.clock.clone();
            shutdown.spawn_beside("admin connection", async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection);
                // A probe that goes away half-way is no event.
                tokio::select! {
                    _gone = connection.as_mut() => return,
                    () = clock.pause(CONNECTION_LIVES) => connection.as_mut().graceful_shutdown(),
                }
                tokio::select! {
                    _gone = connection => {}
                    () = clock.pause(HEAD_TIMEOUT) => {}
                }
                drop(seat);
            });
        }
    }

    async fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.ready(),
            "/metrics" => {
                self.metrics.sessions.set(i64::try_from(self.store.count()).unwrap_or(i64::MAX));
                self.metrics.ready.set(i64::from(self.ready().status() == StatusCode::OK));
                self.metrics.federated_token_expiry.set(self.entra.assertion_expires_at().await);
                self.metrics.store_up.set(i64::from(self.store.state() == StoreState::Here));
                let mut response = text(StatusCode::OK, self.metrics.render());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            _ => text(StatusCode::NOT_FOUND, "/livez, /readyz or /metrics\n".to_owned()),
        }
    }

    /// Whether new clients should come here, and why not. One that was ready stays ready when it loses Entra or the store:
    /// people with a good token notice nothing, and taking all replicas away would help nobody.
    fn ready(&self) -> Response<Full<Bytes>> {
        if self.draining.load(Ordering::Relaxed) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "[-] stopping\n".to_owned());
        }
        let (store, has_store) = match self.store.state() {
            StoreState::Starting => ("[-] store: not reached yet\n".to_owned(), false),
            StoreState::Here => ("[+] store\n".to_owned(), true),
            StoreState::Away(since) => (
                format!("[!] store: away for {} s; known sessions are served from memory\n", since.as_secs()),
                true,
            ),
        };
        let (entra, has_entra) = match self.entra.ready() {
            Ok(()) => ("[+] entra\n".to_owned(), true),
            Err(error) => (format!("[-] entra: {error}\n"), false),
        };
        match has_store && has_entra {
            true => text(StatusCode::OK, format!("{entra}{store}ok\n")),
            false => text(StatusCode::SERVICE_UNAVAILABLE, entra + &store),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
