//! The layers around the whole application: what every request passes, whatever it is for.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

use super::body::Body;

/// The application as one connection sees it. Not boxed: each request would pay for two boxes.
pub(crate) trait HttpService:
    Service<Request<Incoming>, Response = Response<ServedBody>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> HttpService for S where
    S: Service<Request<Incoming>, Response = Response<ServedBody>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The body of its answers.
pub(crate) type ServedBody = tower_http::body::UnsyncBoxBody<Bytes, tower::BoxError>;

/// Wraps the application. Credentials are marked sensitive before anything can print them; a panic becomes the answer
/// that `panicked` makes, instead of a dead connection. What `handle` returns should be small: each layer hands it on.
pub(crate) fn layered<H, F>(handle: H, panicked: fn() -> Response<Full<Bytes>>) -> impl HttpService
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let sensitive: Arc<[_]> = [AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL].into();
    ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::from_shared(sensitive))
        // The panic's own text may hold anything, so it is dropped.
        .layer(CatchPanicLayer::custom(move |_| panicked()))
        .service_fn(move |request| {
            let response = handle(request);
            async move { Ok::<_, Infallible>(response.await) }
        })
}
