//! Requests to one upstream server and its answers back: connections, repeats, tunnels. Knows no user.
//!
//! HTTP/1.1, one exchange at a time on a connection: users do not share a flow-control window, and upgrades need it
//! anyway. Bodies pass through frame by frame; nothing is gathered. Each exchange holds one [`Lease`] from before it is
//! sent until its answer's last byte has been passed on, and never more than one connection.

mod boundary;
mod outgoing;
mod pool;
mod seats;
mod stream;
mod tunnel;

use std::any::Any;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::upgrade::OnUpgrade;
use rustls::RootCertStore;
use thiserror::Error;

use self::outgoing::Sending;
pub(crate) use self::outgoing::{Outgoing, Sent, outgoing_head};
use self::pool::{Pool, Received};
use self::seats::Seats;
use self::stream::StreamBody;
use crate::clock::Clock;
use crate::config::{Server, Trust};
use crate::http::body::{Body, BodyError, Lease, Unhurried};
use crate::metrics::Metrics;
use crate::reload::Reload;
use crate::route::Shape;
use crate::shutdown::Shutdown;
use crate::streams::Stream;
use crate::tls;

/// How long to wait for another exchange to end when all connections are in use.
const LEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no answer of the server.
#[derive(Debug, Error)]
pub(crate) enum TransportError {
    /// No connection; nothing was sent.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// A connection, but not to who it should be; nothing was sent.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The connection was closed before an answer.
    #[error("the server hung up: {0}")]
    HungUp(String),
    /// What came back is not an HTTP answer to this request.
    #[error("the server's answer makes no sense: {0}")]
    Broken(String),
    /// The client gave up while it sent its body.
    #[error("the client gave up: {0}")]
    ClientGone(String),
    /// The client sent no more of its body.
    #[error("the client's body stood still")]
    ClientStalled,
    /// No answer in time.
    #[error("the server did not answer in time")]
    Timeout,
    /// All connections are in use.
    #[error("all connections to the server are in use")]
    Busy,
    /// A target that cannot be forwarded, such as `OPTIONS *`.
    #[error("the request's target cannot be forwarded")]
    BadTarget,
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Transport {
    pool: Pool,
    seats: Seats,
    timeouts: Timeouts,
    server: Server,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

/// How long each phase of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// To connect, TLS included.
    pub(crate) connect: Duration,
    /// From the end of a request to its answer's head; not for streams.
    pub(crate) response: Duration,
    /// How long a request's body may stand still; not for streams.
    pub(crate) stall: Duration,
}

/// An answer's head, with the connection on which its body will come.
#[derive(Debug)]
pub(crate) struct Leased {
    response: Response<Received>,
    lease: Lease,
}

/// The authorities in a PEM text.
fn roots(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    tls::roots_or_public(Some(pem))
}

impl Transport {
    /// Prepares the pool; nothing is connected yet. `connections`: how many may be in use at once.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub(crate) fn new(
        server: Server,
        connections: usize,
        timeouts: Timeouts,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let roots = match &server.trust {
            Trust::Nobody => None,
            Trust::Public => Some(tls::public_roots()),
            Trust::File(file) => {
                Some(roots(&std::fs::read(file).with_context(|| file.display().to_string())?)?)
            }
        };
        let pool = Pool::new(roots, &server.authority, timeouts.connect)?;
        shutdown.spawn_beside("idle connections", pool.sweep());
        Ok(Self { pool, seats: Seats::new(connections), timeouts, server, metrics, shutdown })
    }

    /// The server's `host:port`.
    #[must_use]
    pub(crate) fn authority(&self) -> &Authority {
        &self.server.authority
    }

    /// Watches the CA file for ever, where there is one; `what` names it in metrics. Exchanges under way keep their
    /// connections; new ones use the new trust.
    pub(crate) async fn keep_ca_fresh(&self, what: &str, clock: &Clock) {
        let Trust::File(file) = &self.server.trust else { return std::future::pending().await };
        let files = std::slice::from_ref(file);
        let reload = Reload { what, files, clock, metrics: &self.metrics };
        reload.run(|content| self.pool.trust(roots(&content[0])?)).await;
    }

    /// The right to one connection. Those who wait for one take turns by `party`. `held` stays with it until the exchange
    /// is over.
    ///
    /// # Errors
    /// When no connection becomes free within a second.
    pub(crate) async fn lease(
        &self,
        party: impl Hash,
        held: impl Any + Send + Sync,
    ) -> Result<Lease, TransportError> {
        let seat = self.seats.take(party, LEASE_TIMEOUT).await.ok_or(TransportError::Busy)?;
        Ok(Lease::new((seat, held)))
    }

    /// Sends a request and waits for its answer's head. `head` makes the outgoing head, once for each attempt. `party`: as
    /// for the lease.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn send(
        &self,
        lease: Lease,
        party: impl Hash + Copy,
        head: impl Fn() -> Result<Parts, TransportError>,
        body: (Outgoing, Sent),
        shape: Shape,
    ) -> Result<Leased, TransportError> {
        let (body, mut sent) = body;
        let first = head()?;
        let may_repeat =
            body.is_empty() && matches!(first.method, Method::GET | Method::HEAD) && shape != Shape::Upgrade;
        let exchange = pin!(self.pool.request(Request::from_parts(first, body), party));
        let mut result = self.in_time(exchange, &mut sent, shape).await;
        // As Go's own client does: the server may have closed a pooled connection just as it was used.
        if may_repeat && matches!(result, Err(TransportError::HungUp(_))) {
            let again = Request::from_parts(head()?, Outgoing::Empty);
            // Boxed, because it is rare: each request's future would have room for it.
            let mut exchange = Box::pin(self.pool.request(again, party));
            let mut nothing = Sent::NOTHING;
            result = self.in_time(exchange.as_mut(), &mut nothing, shape).await;
        }
        let mut response = result?;
        self.send_apart(&mut response, sent, &lease);
        Ok(Leased { response, lease })
    }

    /// Where the answer came before the whole request was sent: the rest is sent by a task of its own, as long as it moves.
    /// It holds the lease, too, because an answer without a body is over at once.
    fn send_apart(&self, response: &mut Response<Received>, mut sent: Sent, lease: &Lease) {
        let is_early = !sent.is_done() || response.body().is_sending();
        if !is_early || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let Some(rest) = response.body_mut().apart() else { return };
        let (lease, stall) = (lease.clone(), self.timeouts.stall);
        self.shutdown.spawn_beside("upload", async move {
            tokio::select! {
                () = rest => {}
                () = sent.stands_still(stall) => {}
            }
            drop(lease);
        });
    }

    /// The head of a plain answer must come in time, counted from the end of the request's body.
    async fn in_time(
        &self,
        mut exchange: Pin<&mut impl Future<Output = Result<Response<Received>, TransportError>>>,
        sent: &mut Sent,
        shape: Shape,
    ) -> Result<Response<Received>, TransportError> {
        if shape != Shape::Plain {
            return exchange.await;
        }
        if !sent.is_done() {
            tokio::select! {
                biased;
                answered = &mut exchange => return answered,
                sending = sent.wait(self.timeouts.stall) => match sending {
                    Sending::Done => {}
                    Sending::Stalled { by_client: true } => return Err(TransportError::ClientStalled),
                    Sending::Stalled { by_client: false } => return Err(TransportError::Timeout),
                },
            }
        }
        let answered = tokio::time::timeout(self.timeouts.response, exchange).await;
        answered.unwrap_or(Err(TransportError::Timeout))
    }

    /// Passes the answer on to the client. `stream`: the registration of a request that is a stream; `client`: the
    /// client's side of the upgrade that it asked for.
    ///
    /// # Errors
    /// When the server switches protocols although nobody asked for it.
    pub(crate) fn deliver(
        &self,
        leased: Leased,
        stream: Option<Stream>,
        client: Option<OnUpgrade>,
        shape: Shape,
    ) -> Result<Response<Body>, TransportError> {
        let Leased { response, lease } = leased;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(stream)) = (client, stream) else {
                return Err(TransportError::Broken("a switch of protocols that nobody asked for".to_owned()));
            };
            let (head, body) = response.into_parts();
            let Some(upstream) = body.into_switched() else {
                return Err(TransportError::Broken("a switch of protocols on no connection".to_owned()));
            };
            self.shutdown.spawn("tunnel", async move {
                tunnel::run(client, upstream, stream).await;
                drop(lease);
            });
            return Ok(Response::from_parts(head, Body::empty()));
        }
        let Some(stream) = stream else {
            return Ok(response.map(|body| Body::boxed(Leasing { body, _lease: lease })));
        };
        // Also the answer to an upgrade that the server declined: it may stream all the same.
        let (mut head, body) = response.into_parts();
        head.extensions.insert(Unhurried);
        let (body, task) = StreamBody::new(body, lease, &head.headers, stream, shape == Shape::Watch);
        self.shutdown.spawn_beside("stream", task);
        Ok(Response::from_parts(head, Body::boxed(body)))
    }
}

impl Leased {
    /// The answer's head.
    #[must_use]
    pub(crate) fn response(&self) -> &Response<Received> {
        &self.response
    }

    /// The answer's head, to be changed before it is passed on.
    pub(crate) fn response_mut(&mut self) -> &mut Response<Received> {
        &mut self.response
    }

    /// The whole answer, where it is short and not passed on.
    ///
    /// # Errors
    /// When it breaks off, or has more than `max_bytes`.
    pub(crate) async fn read(self, max_bytes: usize) -> Result<(StatusCode, Bytes), TransportError> {
        let Self { response, lease: _lease } = self;
        let status = response.status();
        let body = Limited::new(response.into_body(), max_bytes).collect().await;
        let body = body.map_err(|error| TransportError::Broken(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }

    /// Drops the answer, and with it its connection. The lease may then hold another one.
    #[must_use]
    pub(crate) fn give_up(self) -> Lease {
        drop(self.response);
        self.lease
    }
}

/// The body of an ordinary answer, which holds its lease until its last byte has been passed on.
struct Leasing {
    body: Received,
    _lease: Lease,
}

impl http_body::Body for Leasing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
