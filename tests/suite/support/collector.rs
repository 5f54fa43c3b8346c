//! A stand-in OpenTelemetry collector: decodes what it is sent with the types that the OpenTelemetry project generates.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message;
use standin::pki::Ca;
use standin::serve::{Listener, full};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::PATIENCE;

/// A running collector. Dropping it closes the port and every connection.
pub(crate) struct Collector {
    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) url: String,
    inner: Arc<Inner>,
    _plain: Option<DropGuard>,
    _tls: Option<Listener>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// With 200.
    Takes,
    /// With this status.
    Refuses(u16),
    /// Not at all.
    Hangs,
}

struct Inner {
    received: watch::Sender<Received>,
    mood: watch::Sender<Mood>,
}

/// What it was sent and has taken, and how often it was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<Span>,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) calls: usize,
}

/// A span with attributes that are easy to look at.
#[derive(Clone, Debug)]
pub(crate) struct Span(pub(crate) proto::Span);

impl Collector {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Inner::default());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(socket, inner.clone(), stop.clone())));
        Self { url, inner, _plain: Some(stop.drop_guard()), _tls: None }
    }

    pub(crate) async fn start_with_tls(ca: &Ca) -> Self {
        let inner = Arc::new(Inner::default());
        let tls = ca.issue(&[]).unwrap().server_config().unwrap();
        let answers = inner.clone();
        let handler = move |request| {
            let inner = answers.clone();
            async move { Ok(inner.answer(request).await.map(full)) }
        };
        let listener = Listener::start(SocketAddr::from(([127, 0, 0, 1], 0)), tls, handler).await.unwrap();
        let url = format!("https://localhost:{}", listener.addr().port());
        Self { url, inner, _plain: None, _tls: Some(listener) }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.inner.mood.send_replace(mood);
    }

    pub(crate) fn received(&self) -> Received {
        self.inner.received.borrow().clone()
    }

    /// Waits until what it has received is as it should be.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Received) -> bool) -> Received {
        let mut received = self.inner.received.subscribe();
        let waited = tokio::time::timeout(PATIENCE, received.wait_for(condition)).await;
        let Ok(found) = waited else { panic!("waited in vain for {what}: {:#?}", self.received().spans) };
        found.unwrap().clone()
    }

    /// Waits for a span of this kind with this name.
    pub(crate) async fn span(&self, kind: proto::span::SpanKind, name: &str) -> Span {
        let is_it = |span: &&Span| span.0.kind == kind as i32 && span.0.name == name;
        let received = self.until(name, |received| received.spans.iter().any(|span| is_it(&span))).await;
        received.spans.iter().find(is_it).unwrap().clone()
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self { received: watch::Sender::default(), mood: watch::Sender::new(Mood::Takes) }
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        self.received.send_modify(|received| received.calls += 1);
        let mood = *self.mood.borrow();
        let status = match mood {
            Mood::Hangs => std::future::pending().await,
            Mood::Refuses(status) => status,
            Mood::Takes if head.uri.path() != "/v1/traces" => 404,
            Mood::Takes => {
                self.take(head.headers, &bytes);
                200
            }
        };
        Response::builder().status(status).body(Bytes::new()).unwrap()
    }

    fn take(&self, headers: HeaderMap, bytes: &[u8]) {
        let request = ExportTraceServiceRequest::decode(bytes).unwrap();
        self.received.send_modify(|received| {
            received.headers = headers;
            received.bytes.extend_from_slice(bytes);
            for of_resource in request.resource_spans {
                received.resource = of_resource.resource.unwrap().attributes;
                let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
                received.spans.extend(spans.map(Span));
            }
        });
    }
}

impl Received {
    /// What is said of the process.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        find(&self.resource, key)
    }
}

impl Span {
    /// An attribute's value, as text.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        find(&self.0.attributes, key)
    }
}

fn find(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

async fn accept(socket: TcpListener, inner: Arc<Inner>, stop: CancellationToken) {
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        let inner = inner.clone();
        let service = service_fn(move |request| {
            let inner = inner.clone();
            async move { Ok::<_, Infallible>(inner.answer(request).await.map(Full::new)) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async {
            let _broken = connection.await;
        }));
    }
}
