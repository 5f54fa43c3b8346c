//! The API server: a delegated request goes out as its user, and the answer comes back cleaned. Accepts only
//! [`Delegated`].

mod head;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use thiserror::Error;
use tokio::time::Instant;

use crate::broker::{Broker, Delegated};
use crate::http::body::{Body, Lease};
use crate::http::forwarded::ForwardedHeaders;
use crate::http::headers::clean_response;
use crate::http::unread::InUse;
use crate::identity::{Identity, Refused};
use crate::record::Record;
use crate::route::Shape;
use crate::streams::{EndedBy, NotOpened, Over, Stream, StreamKind, Streams};
use crate::transport::{Leased, Outgoing, Sent, Transport, TransportError};

/// Of an answer to a question of our own: thousands of groups fit.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Why there is no answer of the API server.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    /// The request could not be sent, or its answer did not come or could not be read.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The user has too many streams open.
    #[error("the user has too many streams open")]
    TooManyStreams,
    /// The credential ended after its check and before the answer's first bytes.
    #[error("the credential has ended")]
    Ended(Refused),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

/// An answer of the API server on its way to the client.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// The answer, cleaned.
    pub(crate) response: Response<Body>,
    /// The API server does not accept the user's AKS token: a 401 that a renewed token did not help.
    pub(crate) refused_user: bool,
}

/// Evidence that a delegated request has what it needs on its way: a connection, and where it is a stream its registration.
/// Made here only.
#[derive(Debug)]
pub(crate) struct Reserved {
    delegated: Delegated,
    stream: Option<Stream>,
    lease: Lease,
    record: Arc<Record>,
}

impl Reserved {
    /// Whose request it is.
    #[must_use]
    pub(crate) fn identity(&self) -> &Identity {
        self.delegated.identity()
    }
}

/// The API server of this cluster.
#[derive(Debug)]
pub(crate) struct Upstream {
    transport: Transport,
    streams: Streams,
    /// Asked for a newer token when one is refused.
    broker: Arc<Broker>,
}

impl Upstream {
    /// Reached by `transport`; what stays open is registered in `streams`.
    #[must_use]
    pub(crate) fn new(transport: Transport, streams: Streams, broker: Arc<Broker>) -> Self {
        Self { transport, streams, broker }
    }

    /// The connections.
    #[must_use]
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Registers a stream, and takes one connection for the request: before its body is touched, so that a request which is
    /// refused here costs its client no connection. `record` is held until the exchange is over.
    ///
    /// # Errors
    /// When the user has too many streams, the credential has ended meanwhile, or no connection becomes free in time.
    pub(crate) async fn reserve(
        &self,
        mut delegated: Delegated,
        record: &Arc<Record>,
    ) -> Result<Reserved, UpstreamError> {
        // Before anything is sent: what ends from here on ends this stream.
        let stream = self.register(&delegated)?;
        // A stream is counted as one from now on.
        let share = delegated.take_share().filter(|_| stream.is_none());
        let user = &delegated.identity().credential().user;
        let lease = self.transport.lease(user, (share, record.clone())).await.inspect_err(|_| {
            stream.iter().for_each(|stream| stream.ended_by(EndedBy::Upstream));
        })?;
        Ok(Reserved { delegated, stream, lease, record: record.clone() })
    }

    /// Makes the request as its user.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn forward(
        &self,
        reserved: Reserved,
        parts: &mut Parts,
        body: Incoming,
        forwarded_headers: &ForwardedHeaders,
    ) -> Result<Forwarded, UpstreamError> {
        let Reserved { delegated, stream, lease, record } = reserved;
        let kind = delegated.identity().credential().kind;
        let (is_cookie, pod_answers) = (delegated.identity().is_cookie(), delegated.facts().pod_answers);
        let shape = delegated.facts().shape;
        let client = parts.extensions.remove::<OnUpgrade>().filter(|_| shape == Shape::Upgrade);
        let exchange = self.send_with_renewal(lease, delegated, parts, body, forwarded_headers, &record);
        let mut leased = match &stream {
            None => exchange.await?,
            // The answer's head may be long in coming, and the credential may end meanwhile. Boxed, so that an ordinary
            // request's future has no room for it.
            Some(stream) => Box::pin(async {
                tokio::select! {
                    exchanged = exchange => Ok(exchanged.inspect_err(|_| stream.ended_by(EndedBy::Upstream))?),
                    over = stream.over() => Err(match over {
                        Over::Credential(fate) => UpstreamError::Ended(Refused::ended(kind, fate)),
                        Over::Stopping => UpstreamError::Stopping,
                    }),
                }
            })
            .await?,
        };
        let response = leased.response_mut();
        let refused_user = response.status() == StatusCode::UNAUTHORIZED && !pod_answers;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        clean_response(response.headers_mut(), is_cookie, switches);
        let response = self.transport.deliver(leased, stream, client, shape)?;
        Ok(Forwarded { response, refused_user })
    }

    /// Asks the API server something for a page of ours, as its user. Nothing is repeated, and nothing of the answer is
    /// passed on as it is. `question`: the head of a request that is no stream.
    ///
    /// # Errors
    /// Why there is no answer, or none of at most 1 MiB.
    pub(crate) async fn ask(
        &self,
        delegated: Delegated,
        question: &Parts,
        body: Bytes,
        forwarded_headers: &ForwardedHeaders,
        record: &Arc<Record>,
    ) -> Result<(StatusCode, Bytes), UpstreamError> {
        let Reserved { delegated, lease, .. } = self.reserve(delegated, record).await?;
        let user = &delegated.identity().credential().user;
        let head = || head::as_user(question, &delegated, forwarded_headers);
        let body = (Outgoing::Own(body.into()), Sent::NOTHING);
        let began = Instant::now();
        let leased = self.transport.send(lease, user, head, body, Shape::Plain).await?;
        record.upstream_took(began.elapsed());
        record.answered(leased.response().status(), None);
        Ok(leased.read(MAX_ANSWER_BYTES).await?)
    }

    /// Registers a request that is a stream under its credential, so that the credential's end ends it.
    fn register(&self, delegated: &Delegated) -> Result<Option<Stream>, UpstreamError> {
        let kind = match delegated.facts().shape {
            Shape::Plain => return Ok(None),
            Shape::Watch => StreamKind::Watch,
            Shape::Follow => StreamKind::Follow,
            Shape::Upgrade => StreamKind::Tunnel,
        };
        let identity = delegated.identity();
        let opened = self.streams.open(kind, identity.opener(), identity.ends_at(), identity.found_at());
        opened.map(Some).map_err(|error| match error {
            NotOpened::TooMany => UpstreamError::TooManyStreams,
            NotOpened::Ended(fate) => UpstreamError::Ended(Refused::ended(identity.credential().kind, fate)),
        })
    }

    /// Sends the request; once more with a renewed token where the API server says 401 and there is no body to repeat.
    async fn send_with_renewal(
        &self,
        lease: Lease,
        delegated: Delegated,
        parts: &mut Parts,
        body: Incoming,
        forwarded_headers: &ForwardedHeaders,
        record: &Record,
    ) -> Result<Leased, TransportError> {
        let (body, sent) = Outgoing::from_client(body, parts.extensions.remove::<InUse>());
        let (has_body, shape) = (!body.is_empty(), delegated.facts().shape);
        let authority = self.transport.authority();
        let head = |delegated: &Delegated| {
            let mut head = head::as_user(parts, delegated, forwarded_headers)?;
            record.sending(&mut head.headers, authority);
            Ok(head)
        };
        let (user, began) = (&delegated.identity().credential().user, Instant::now());
        let leased = self.transport.send(lease, user, || head(&delegated), (body, sent), shape).await?;
        record.upstream_took(began.elapsed());
        if leased.response().status() != StatusCode::UNAUTHORIZED || has_body {
            return Ok(leased);
        }
        // Rare, and boxed therefore, too.
        let again = Box::pin(async {
            let Some(renewed) = self.broker.renewed_after_401(delegated).await else { return Ok(leased) };
            let lease = leased.give_up();
            let nothing = (Outgoing::Empty, Sent::NOTHING);
            let (user, began) = (&renewed.identity().credential().user, Instant::now());
            let leased = self.transport.send(lease, user, || head(&renewed), nothing, shape).await?;
            record.upstream_took(began.elapsed());
            Ok(leased)
        });
        again.await
    }
}
