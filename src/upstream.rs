//! Forwards a delegated request to the API server and its answer back. Accepts only [`Delegated`].
//!
//! HTTP/1.1 towards the API server, one connection per exchange at a time: users do not share a window, and upgrades
//! need it anyway. Bodies pass through frame by frame; nothing is gathered.

mod boundary;
mod client;
mod outgoing;
mod rewrite;
mod stream;
mod tunnel;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use thiserror::Error;

pub use self::client::Client;
use self::client::Seat;
use self::outgoing::{Outgoing, Sent};
use self::stream::StreamBody;
use crate::broker::{Broker, Delegated};
use crate::http::body::Body;
use crate::http::forwarded::Via;
use crate::http::headers::clean_response;
use crate::identity::{Authenticator, Refused};
use crate::route::Shape;
use crate::shutdown::Shutdown;
use crate::streams::{Stream, StreamKind, Streams};

/// Why there is no answer of the API server.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// No connection; nothing was sent.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// A connection, but not to who it should be; nothing was sent.
    #[error("the API server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The connection was closed before an answer.
    #[error("the API server hung up: {0}")]
    HungUp(String),
    /// What came back is no answer.
    #[error("the API server's answer makes no sense: {0}")]
    Broken(String),
    /// The client gave up while it sent its body.
    #[error("the client gave up: {0}")]
    ClientGone(String),
    /// No answer in time.
    #[error("the API server did not answer in time")]
    Timeout,
    /// All connections are in use.
    #[error("all connections to the API server are in use")]
    Busy,
    /// A target that cannot be forwarded, such as `OPTIONS *`.
    #[error("the request's target cannot be forwarded")]
    BadTarget,
    /// The user has too many streams open.
    #[error("the user has too many streams open")]
    TooManyStreams,
    /// The credential ended between its check and the stream's first bytes.
    #[error("the credential has ended")]
    Ended(#[from] Refused),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
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
    /// The pool.
    pub client: Client,
    /// Renews a token that the API server does not take any more.
    pub broker: Arc<Broker>,
    /// Looks once more at the credential of a stream that was just put on the books.
    pub authenticator: Authenticator,
    /// The books.
    pub streams: Streams,
    /// Tracks tunnels.
    pub shutdown: Shutdown,
    /// From the end of a request to its answer's head; not for streams.
    pub response_timeout: Duration,
}

impl Upstream {
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
        let seat = self.client.seat().await?;
        let is_cookie = delegated.identity().is_cookie();
        let shape = delegated.facts().shape;
        let on_client_upgrade = (shape == Shape::Upgrade).then(|| hyper::upgrade::on(&mut request));
        let exchange = self.exchange(delegated, request, via);
        let exchanged = match &stream {
            None => exchange.await,
            // The answer's head may be long in coming, and the credential may end meanwhile.
            Some(stream) => tokio::select! {
                exchanged = exchange => exchanged,
                () = stream.over() => Err(self.why_over()),
            },
        };
        let (delegated, mut response) = exchanged?;
        let refused_user = response.status() == StatusCode::UNAUTHORIZED && !delegated.facts().is_proxy;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let on_upstream_upgrade = switches.then(|| hyper::upgrade::on(&mut response));
        clean_response(response.headers_mut(), is_cookie, switches);
        let response = match (on_client_upgrade, on_upstream_upgrade, stream) {
            (Some(client), Some(upstream), Some(stream)) => {
                self.shutdown.spawn("tunnel", async move {
                    tunnel::run(client, upstream, stream).await;
                    drop(seat);
                });
                response.map(|_| Body::empty())
            }
            (_, Some(_), _) => {
                return Err(UpstreamError::Broken("a switch of protocols that nobody asked for".to_owned()));
            }
            // Also where a switch was asked for and declined: what a server answers instead may be a stream.
            (_, None, Some(stream)) => self.follow(response, stream, seat, shape),
            (_, None, None) => response.map(|body| Body::Upstream(body, seat)),
        };
        Ok(Answer { response, refused_user })
    }

    fn follow(
        &self,
        response: Response<Incoming>,
        stream: Stream,
        seat: Seat,
        shape: Shape,
    ) -> Response<Body> {
        let (head, body) = response.into_parts();
        let (body, task) = StreamBody::new(body, &head.headers, stream, shape == Shape::Watch);
        self.shutdown.spawn_beside("stream", async move {
            task.await;
            drop(seat);
        });
        Response::from_parts(head, Body::Boxed(UnsyncBoxBody::new(body)))
    }

    fn why_over(&self) -> UpstreamError {
        if self.shutdown.has_begun() {
            UpstreamError::Stopping
        } else {
            UpstreamError::Ended(Refused::Dormant)
        }
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
        let stream = self
            .streams
            .open(kind, identity.credential(), identity.ends_at())
            .map_err(|_| UpstreamError::TooManyStreams)?;
        self.authenticator.confirm(identity.credential()).await?;
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
        let (body, sent) = Outgoing::from_client(body);
        let has_body = !body.is_empty();
        let authority = self.client.authority();
        let head = rewrite::head(&parts, has_body, authority, &delegated, via)?;
        let shape = delegated.facts().shape;
        let mut result = self.send(Request::from_parts(head, body), sent, shape).await;
        // As Go's own client does: a pooled connection may be closed just as it is used.
        let may_repeat =
            !has_body && matches!(parts.method, Method::GET | Method::HEAD) && shape != Shape::Upgrade;
        if may_repeat && matches!(result, Err(UpstreamError::HungUp(_))) {
            let head = rewrite::head(&parts, false, authority, &delegated, via)?;
            result = self.send(Request::from_parts(head, Outgoing::Empty), Sent::NOTHING, shape).await;
        }
        let response = result?;
        if response.status() != StatusCode::UNAUTHORIZED || has_body {
            return Ok((delegated, response));
        }
        match self.broker.renew_after_401(delegated).await {
            Err(delegated) => Ok((delegated, response)),
            Ok(delegated) => {
                let head = rewrite::head(&parts, false, authority, &delegated, via)?;
                let again = Request::from_parts(head, Outgoing::Empty);
                Ok((delegated, self.send(again, Sent::NOTHING, shape).await?))
            }
        }
    }

    /// The answer's head must come in time, counted from the end of the request's body.
    async fn send(
        &self,
        request: Request<Outgoing>,
        sent: Sent,
        shape: Shape,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut exchange = pin!(self.client.send(request));
        if shape != Shape::Plain {
            return exchange.await;
        }
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            () = sent.wait() => {}
        }
        tokio::time::timeout(self.response_timeout, exchange).await.unwrap_or(Err(UpstreamError::Timeout))
    }
}
