//! Forwards a delegated request to the API server and its answer back. Accepts only [`Delegated`].
//!
//! HTTP/1.1 towards the API server, one connection per exchange at a time: users do not share a window, and upgrades
//! need it anyway. Bodies pass through frame by frame; nothing is gathered.

mod client;
mod rewrite;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use thiserror::Error;

use self::client::{Client, Outgoing};
use crate::broker::{Broker, Delegated};
use crate::config::ApiServer;
use crate::http::body::{Body, StreamBody};
use crate::http::forwarded::Via;
use crate::http::headers::clean_response;
use crate::identity::{Authenticator, Refused};
use crate::metrics::Metrics;
use crate::route::Shape;
use crate::shutdown::Shutdown;
use crate::streams::{Stream, StreamKind, Streams};

/// The API server gives itself 60 s for an answer that is no stream; ten more for the way.
const HEAD_TIMEOUT: Duration = Duration::from_secs(70);

/// Why there is no answer of the API server.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// No connection; nothing was sent.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// A connection, but not to who it should be; nothing was sent.
    #[error("the API server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The connection broke before an answer.
    #[error("the API server broke off: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("the API server did not answer within {} s", HEAD_TIMEOUT.as_secs())]
    Timeout,
    /// A target that cannot be forwarded, such as `OPTIONS *`.
    #[error("the request's target cannot be forwarded")]
    BadTarget,
    /// The user has too many streams open.
    #[error("the user has too many streams open")]
    TooManyStreams,
    /// The credential ended between its check and the stream's registration.
    #[error(transparent)]
    Ended(#[from] Refused),
}

/// An answer, and whether it is a 401 that a renewed token did not help.
#[derive(Debug)]
pub struct Answer {
    /// The answer, cleaned.
    pub response: Response<Body>,
    /// The API server does not accept the user's AKS token.
    pub refused_user: bool,
}

/// The upstream side of this process.
#[derive(Debug)]
pub struct Upstream {
    client: Client,
    broker: Arc<Broker>,
    authenticator: Authenticator,
    streams: Streams,
    shutdown: Shutdown,
}

impl Upstream {
    /// Prepares the pool; nothing is connected yet.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn new(
        config: &ApiServer,
        broker: Arc<Broker>,
        authenticator: Authenticator,
        streams: Streams,
        shutdown: Shutdown,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let client = Client::new(config, metrics)?;
        Ok(Self { client, broker, authenticator, streams, shutdown })
    }

    /// Watches the CA file for ever.
    pub async fn keep_ca_fresh(&self) {
        self.client.keep_ca_fresh().await;
    }

    /// Makes the request as its user.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn forward(
        &self,
        delegated: Delegated,
        mut request: Request<Incoming>,
        via: &Via,
    ) -> Result<Answer, UpstreamError> {
        let stream = self.register(&delegated).await?;
        let is_cookie = delegated.identity().is_cookie();
        let shape = delegated.facts().shape;
        let on_client_upgrade = (shape == Shape::Upgrade).then(|| hyper::upgrade::on(&mut request));
        let (delegated, mut response) = self.exchange(delegated, request, via).await?;
        let refused_user = response.status() == StatusCode::UNAUTHORIZED && !delegated.facts().is_proxy;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let on_upstream_upgrade = switches.then(|| hyper::upgrade::on(&mut response));
        clean_response(response.headers_mut(), is_cookie, switches);
        let response = match (on_client_upgrade, on_upstream_upgrade, stream) {
            (Some(client), Some(upstream), Some(stream)) => {
                self.shutdown.spawn("tunnel", tunnel::run(client, upstream, stream));
                response.map(|_| Body::empty())
            }
            (_, Some(_), _) => {
                return Err(UpstreamError::Broken("a switch of protocols that nobody asked for".to_owned()));
            }
            (_, None, Some(stream)) if shape != Shape::Upgrade => {
                let ends_cleanly = shape == Shape::Watch;
                response.map(|body| Body::Stream(Box::new(StreamBody::new(body, stream, ends_cleanly))))
            }
            _ => response.map(Body::Upstream),
        };
        Ok(Answer { response, refused_user })
    }

    /// Puts a stream on the books before anything is sent, and looks again whether its credential still stands: one
    /// that was ended in between would otherwise be missed.
    async fn register(&self, delegated: &Delegated) -> Result<Option<Stream>, UpstreamError> {
        let kind = match delegated.facts().shape {
            Shape::Plain => return Ok(None),
            Shape::Watch => StreamKind::Watch,
            Shape::Follow => StreamKind::Follow,
            Shape::Upgrade => StreamKind::Tunnel,
        };
        let identity = delegated.identity();
        let (id, user) = (identity.credential().id.clone(), identity.session().user.clone());
        let stream = self
            .streams
            .open(kind, id, user, identity.ends_at())
            .map_err(|_| UpstreamError::TooManyStreams)?;
        self.authenticator.confirm(identity).await?;
        Ok(Some(stream))
    }

    /// Sends the request; once more with a renewed token where the API server says 401 and there is no body to repeat.
    async fn exchange(
        &self,
        delegated: Delegated,
        request: Request<Incoming>,
        via: &Via,
    ) -> Result<(Delegated, Response<Incoming>), UpstreamError> {
        let (parts, body) = request.into_parts();
        let head = rewrite::head(&parts, self.client.authority(), &delegated, via)?;
        let body = Outgoing::from_client(body);
        let again = body.is_empty().then(|| head.clone());
        let shape = delegated.facts().shape;
        let response = self.send(Request::from_parts(head, body), shape).await?;
        let (StatusCode::UNAUTHORIZED, Some(mut head)) = (response.status(), again) else {
            return Ok((delegated, response));
        };
        match self.broker.renew_after_401(delegated).await {
            Err(delegated) => Ok((delegated, response)),
            Ok(delegated) => {
                head.headers.insert(http::header::AUTHORIZATION, delegated.authorization());
                let response = self.send(Request::from_parts(head, Outgoing::Empty), shape).await?;
                Ok((delegated, response))
            }
        }
    }

    async fn send(
        &self,
        request: Request<Outgoing>,
        shape: Shape,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let exchange = self.client.send(request);
        if shape != Shape::Plain {
            return exchange.await;
        }
        tokio::time::timeout(HEAD_TIMEOUT, exchange).await.unwrap_or(Err(UpstreamError::Timeout))
    }
}
