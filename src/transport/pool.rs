//! The connection pool: HTTP/1.1 over connections that are made when none is idle, the CA they trust, and what errors mean
//! as a [`TransportError`].
//!
//! The request that [`upload`] sends, the [`head`] of its answer, and the body that the [`decoder`] takes out of what comes
//! meet on a [`link`].

mod decoder;
mod head;
mod idle;
mod link;
mod upload;

use std::error::Error as StdError;
use std::hash::Hash;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tower::Service as _;

use self::idle::Idle;
use self::link::Link;
pub(crate) use self::link::Received;
use super::TransportError;
use super::outgoing::Outgoing;
use super::seats::Seats;
use crate::tls;

/// How often idle connections are looked at. After twelve rounds one is closed: that is sooner than the API server, which
/// would otherwise close it just as we use it.
const SWEEP: Duration = Duration::from_secs(5);
/// A connection that was closed under us, rather than one that spoke nonsense.
const HANG_UPS: [io::ErrorKind; 4] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::UnexpectedEof,
];
const KEEPALIVE: Duration = Duration::from_secs(30);
/// So many connections are made at a time. Of a thousand requests at once most find a connection that another has done
/// with; a thousand handshakes at once would take a busy server longer than anybody waits.
const DIALS_AT_ONCE: usize = 32;
/// After this a connection that is still being made leaves its place to the next: a few that lead nowhere must not keep out
/// those that would work.
const DIAL_TURN: Duration = Duration::from_secs(1);
/// What waits in the kernel for a client that does not read; it would otherwise take 6 MiB for each.
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

type Connector = HttpsConnector<HttpConnector>;

/// Connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    trust: ArcSwap<Trust>,
    idle: Arc<Idle>,
    /// Who makes the next connection: users take turns.
    dials: Seats,
    /// Where to connect.
    target: Uri,
    /// The server's name in each request.
    host: HeaderValue,
    connect_timeout: Duration,
}

/// How connections are made, since the CA file was last read.
#[derive(Debug)]
struct Trust {
    connector: Connector,
    generation: u64,
}

impl Pool {
    /// No connections yet. It trusts `roots` and nobody else; without any it speaks plain HTTP. `connect_timeout` includes
    /// the TLS handshake, and the wait until it is this one's turn to be made.
    ///
    /// # Errors
    /// When the cryptography library lacks what TLS needs.
    pub(super) fn new(
        roots: Option<RootCertStore>,
        authority: &Authority,
        connect_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let (scheme, usual_port) = if roots.is_some() { ("https", 443) } else { ("http", 80) };
        let target =
            Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/").build()?;
        let host = match authority.port_u16() {
            Some(port) if port == usual_port => HeaderValue::from_str(authority.host())?,
            _ => HeaderValue::from_str(authority.as_str())?,
        };
        let trust =
            ArcSwap::from_pointee(Trust { connector: connector(roots, connect_timeout)?, generation: 0 });
        let dials = Seats::new(DIALS_AT_ONCE);
        Ok(Self { trust, idle: Arc::default(), dials, target, host, connect_timeout })
    }

    /// From now on trusts `roots`, and nobody else. Idle connections are closed; those in use are,
    /// when their exchange is over.
    ///
    /// # Errors
    /// When the cryptography library lacks what TLS needs.
    pub(super) fn trust(&self, roots: RootCertStore) -> anyhow::Result<()> {
        let generation = self.trust.load().generation + 1;
        self.trust
            .store(Arc::new(Trust { connector: connector(Some(roots), self.connect_timeout)?, generation }));
        self.idle.begin(generation);
        Ok(())
    }

    /// Closes what has been idle for too long, as long as there is the pool.
    pub(super) fn sweep(&self) -> impl Future<Output = ()> + Send + 'static {
        let idle = Arc::downgrade(&self.idle);
        async move {
            let mut rounds = interval(SWEEP);
            rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                rounds.tick().await;
                let Some(idle) = idle.upgrade() else { return };
                idle.sweep();
            }
        }
    }

    /// Sends a request and waits for its answer's head. Where connections have to be made, parties take turns.
    ///
    /// The request is handed to an idle connection at once, and not first when the future is polled: it would be part of
    /// each future on the way, and be moved along with them.
    pub(super) fn request(
        &self,
        mut request: Request<Outgoing>,
        party: impl Hash,
    ) -> impl Future<Output = Result<Response<Received>, TransportError>> {
        self.address(&mut request);
        let begun = match self.idle.take() {
            Some(link) => Ok(link.exchange(request)),
            None => Err(Box::new(request)),
        };
        async move {
            match begun {
                Ok(exchange) => exchange.await,
                // Boxed, because it is rare: its future would be part of every request's.
                Err(request) => Box::pin(async { self.connect(party).await?.exchange(*request).await }).await,
            }
        }
    }

    /// In origin form, with the server's name.
    fn address(&self, request: &mut Request<Outgoing>) {
        if request.uri().scheme().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        }
        request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
    }

    /// A connection that another request has done with, or a new one: whichever there is first.
    async fn connect(&self, party: impl Hash) -> Result<Box<Link>, TransportError> {
        let late = || TransportError::Unreachable("no connection in time".to_owned());
        let connecting = async {
            let turn = tokio::select! {
                biased;
                link = self.idle.freed() => return Ok(link),
                turn = self.dials.take(party, self.connect_timeout) => turn,
            };
            let Some(turn) = turn else { return Err(late()) };
            let mut dial = pin!(self.dial());
            if let Ok(dialled) = timeout(DIAL_TURN, &mut dial).await {
                return dialled;
            }
            drop(turn);
            tokio::select! {
                link = self.idle.freed() => Ok(link),
                dialled = dial => dialled,
            }
        };
        timeout(self.connect_timeout, connecting).await.unwrap_or_else(|_| Err(late()))
    }

    /// A new connection.
    async fn dial(&self) -> Result<Box<Link>, TransportError> {
        let trust = self.trust.load_full();
        let mut connector = trust.connector.clone();
        let connecting = async {
            std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(self.target.clone()).await
        };
        let stream = connecting.await.map_err(|error| describe_connect(&*error))?;
        Ok(Link::new(TokioIo::new(stream), Arc::downgrade(&self.idle), trust.generation))
    }
}

fn connector(roots: Option<RootCertStore>, timeout: Duration) -> anyhow::Result<Connector> {
    let is_plain = roots.is_none();
    let tls = tls::client(roots.unwrap_or_else(RootCertStore::empty))?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Of a name's addresses each gets its share, so that a dead one does not use up the time of the next.
    tcp.set_connect_timeout(Some(timeout));
    tcp.set_recv_buffer_size(Some(RECEIVE_BUFFER_BYTES));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    // Offers HTTP/1.1 alone: ALPN decides the protocol, not the request's version.
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = if is_plain { connector.https_or_http() } else { connector.https_only() };
    Ok(connector.enable_http1().wrap_connector(tcp))
}

/// What is known of an error by those below it. The whole chain is looked at, because each layer wraps the one below.
#[derive(Default)]
struct Causes {
    text: String,
    is_untrusted: bool,
}

impl Causes {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut causes = Self::default();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            // A wrapper often has no words of its own.
            if causes.text.is_empty() {
                causes.text = text;
            } else if !causes.text.ends_with(&text) {
                causes.text.push_str(": ");
                causes.text.push_str(&text);
            }
            causes.is_untrusted |= matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)));
            let io = error.downcast_ref::<io::Error>();
            // An io::Error that wraps another error does not name it as its source, but that error's source.
            let wrapped = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn StdError + 'static));
            cause = wrapped.or_else(|| error.source());
        }
        causes
    }
}

/// What it means that a connection failed.
fn broken_io(error: &io::Error) -> TransportError {
    let text = error.to_string();
    if HANG_UPS.contains(&error.kind()) { TransportError::HungUp(text) } else { TransportError::Broken(text) }
}

/// What an error while connecting means.
fn describe_connect(error: &(dyn StdError + Send + Sync + 'static)) -> TransportError {
    let Causes { text, is_untrusted } = Causes::of(error);
    if is_untrusted { TransportError::Untrusted(text) } else { TransportError::Unreachable(text) }
}

#[cfg(test)]
mod tests;
