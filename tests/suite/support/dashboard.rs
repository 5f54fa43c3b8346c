//! A dashboard in the cluster: it keeps what it was sent, streams, and fails as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::World;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

/// Plain HTTP on a loopback port. Dropping it closes the port and every connection.
pub(crate) struct Dashboard {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: CancellationToken,
}

impl Dashboard {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::<Mutex<Vec<Seen>>>::default(), CancellationToken::new());
        let (kept, stopped) = (seen.clone(), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(stopped.clone().run_until_cancelled_owned(serve(stream, kept.clone())));
            }
        }));
        Self { addr, seen, stop }
    }

    /// What it was sent, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().last().unwrap().clone()
    }

    /// The bearer of its last request.
    pub(crate) fn bearer(&self, world: &World) -> String {
        let last = self.last();
        let bearers: Vec<_> = last.headers.get_all("authorization").iter().collect();
        assert_eq!(bearers.len(), 1, "{last:?}");
        let bearer = bearers[0].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        assert!(bearer.starts_with("entradam_"), "{bearer}");
        world.keep_secret(&bearer);
        bearer
    }

    /// Closes the port and every connection.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop.cancel();
        if !std::thread::panicking() {
            for seen in self.seen() {
                for (name, value) in &seen.headers {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    assert!(!value.contains("__Host-entrada"), "{} {name}: {value}", seen.target);
                    assert!(!value.contains("Bearer ey"), "{} has an AKS token", seen.target);
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let handler = service_fn(move |request: Request<Incoming>| {
        let told = Seen {
            method: request.method().clone(),
            target: request.uri().to_string(),
            headers: request.headers().clone(),
        };
        seen.lock().unwrap().push(told);
        answer(request)
    });
    let builder = hyper::server::conn::http1::Builder::new();
    let _broken = builder.serve_connection(TokioIo::new(stream), handler).with_upgrades().await;
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _left = tokio::io::copy(&mut from, &mut to).await;
            let _closed = to.shutdown().await;
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket");
        return Ok(response.body(full("")).unwrap());
    }
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/hang" => std::future::pending().await,
        "/reset" => Err(std::io::Error::other("as told")),
        "/events" => {
            let first = Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")));
            let first = futures_util::stream::iter([first]);
            let stream = futures_util::StreamExt::chain(first, futures_util::stream::pending());
            let response = Response::builder().header("content-type", "text/event-stream");
            Ok(response.body(StreamBody::new(stream).boxed_unsync()).unwrap())
        }
        "/headers" => {
            let response = Response::builder()
                .header("set-cookie", "__Host-entrada=planted; Path=/; Secure")
                .header("set-cookie", "theme=dark; Path=/")
                .header("clear-site-data", "\"*\"")
                .header("strict-transport-security", "max-age=1; includeSubDomains")
                .header("report-to", "{}")
                .header("service-worker-allowed", "/")
                .header("access-control-allow-origin", "*")
                .header("www-authenticate", "Basic")
                .header("entrada-reason", "forged")
                .header("content-security-policy", "default-src 'self'");
            Ok(response.body(full("headers")).unwrap())
        }
        _ => {
            let told = format!("dashboard: {} {}", request.method(), request.uri());
            let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
            let told = format!("{told} {}", String::from_utf8_lossy(&body));
            Ok(Response::builder().header("content-type", "text/html").body(full(&told)).unwrap())
        }
    }
}

fn full(text: &str) -> Body {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync()
}
