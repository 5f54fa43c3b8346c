//! The layers around the whole application: what every request passes, whatever it is for.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

use super::body::Body;

/// The application as one connection sees it.
pub type Edge = BoxCloneSyncService<
    Request<Incoming>,
    Response<tower_http::body::UnsyncBoxBody<Bytes, tower::BoxError>>,
    Infallible,
>;

/// Wraps the application. Credentials are marked sensitive before anything can print them; a panic becomes a 500
/// and a log line instead of a dead connection.
pub fn edge<H, F>(handle: H) -> Edge
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let sensitive: Arc<[_]> = [AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL].into();
    let service = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::from_shared(sensitive))
        .layer(CatchPanicLayer::custom(panicked))
        .service_fn(move |request| {
            let answer = handle(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
    BoxCloneSyncService::new(service)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<Full<Bytes>> {
    // The panic's text may hold anything; the hook has logged where it happened.
    tracing::error!("a request's handler panicked");
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Something went wrong in Entrada.","reason":"InternalError","code":500}"#;
    let mut response = Response::new(Full::from(status));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert("entrada-reason", HeaderValue::from_static("internal_error"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
