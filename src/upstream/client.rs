//! The connection pool to the API server, and its trust: a new pool when the CA changes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::uri::Authority;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;

use super::UpstreamError;
use super::outgoing::Outgoing;
use crate::clock::Clock;
use crate::config::ApiServer;
use crate::metrics::Metrics;
use crate::reload::Reload;

/// How long to wait for another exchange to end when all connections are in use.
const SEAT_TIMEOUT: Duration = Duration::from_secs(1);
/// Shorter than the API server's own, which would else close a connection just as we use it.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// A handshake costs more than an idle connection: generous, so that a burst leaves its connections for the next.
const POOL_IDLE_CONNECTIONS: usize = 1_024;
/// A connection that was closed under us, rather than one that spoke nonsense.
const HANG_UPS: [io::ErrorKind; 4] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::UnexpectedEof,
];
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What waits for a client that does not read: in the kernel, which would else take 6 MiB for each, and in our own
/// memory. 256 KiB keep a connection within the region busy at more than 100 MB/s.
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Connects within a time that includes the TLS handshake. Boxed because the pool wants its future unpinned.
type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, tower::BoxError>;
type Pool = legacy::Client<Connector, Outgoing>;

/// The right to use one connection; given back when the exchange has ended.
pub(super) type Seat = OwnedSemaphorePermit;

/// The pool of connections to the API server.
#[derive(Debug)]
pub struct Client {
    pool: ArcSwap<Pool>,
    seats: Arc<Semaphore>,
    connect_timeout: Duration,
    authority: Authority,
    ca_file: PathBuf,
    metrics: Arc<Metrics>,
}

impl Client {
    /// Prepares the pool; nothing is connected yet. `seats`: connections that may be in use. `connect_timeout` includes
    /// the TLS handshake.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn new(
        config: &ApiServer,
        seats: usize,
        connect_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let pem = std::fs::read(&config.ca_file).context("ENTRADA_API_SERVER_CA_FILE")?;
        let pool = pool(&pem, connect_timeout).context("ENTRADA_API_SERVER_CA_FILE")?;
        Ok(Self {
            pool: ArcSwap::from_pointee(pool),
            seats: Arc::new(Semaphore::new(seats)),
            connect_timeout,
            authority: config.authority.clone(),
            ca_file: config.ca_file.clone(),
            metrics,
        })
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Watches the CA file for ever. Exchanges under way keep their connections; new ones use the new trust.
    pub async fn keep_ca_fresh(&self, clock: &Clock) {
        let files = [self.ca_file.clone()];
        let reload = Reload { what: "api_server_ca", files: &files, clock, metrics: &self.metrics };
        reload
            .run(|content| {
                self.pool.store(Arc::new(pool(&content[0], self.connect_timeout)?));
                Ok(())
            })
            .await;
    }

    /// # Errors
    /// When all connections stay in use.
    pub(super) async fn seat(&self) -> Result<Seat, UpstreamError> {
        let seat = tokio::time::timeout(SEAT_TIMEOUT, self.seats.clone().acquire_owned()).await;
        seat.ok().and_then(Result::ok).ok_or(UpstreamError::Busy)
    }

    pub(super) async fn send(&self, request: Request<Outgoing>) -> Result<Response<Incoming>, UpstreamError> {
        let response = self.pool.load().request(request);
        response.await.map_err(|error| describe(&error))
    }
}

fn pool(ca_pem: &[u8], connect_timeout: Duration) -> anyhow::Result<Pool> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "the file holds no certificate");
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_recv_buffer_size(Some(RECEIVE_BUFFER_BYTES));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    // Offers HTTP/1.1 alone: ALPN decides the protocol, not the request's version.
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS)
        // A pooled connection that the API server closed before anything was sent is replaced by a new one.
        .retry_canceled_requests(true)
        .http1_max_buf_size(READ_BUFFER_BYTES)
        .set_host(true)
        .build(BoxCloneSyncService::new(Timeout::new(connector, connect_timeout))))
}

/// What an error of the pool means. The whole chain is looked at, because each layer wraps the one below.
fn describe(error: &Error) -> UpstreamError {
    let mut text = error.to_string();
    let (mut untrusted, mut by_client, mut hung_up) = (false, false, false);
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        untrusted |= matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)));
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            by_client |= error.is_user();
            hung_up |= error.is_incomplete_message() || error.is_canceled();
        }
        let io = error.downcast_ref::<io::Error>();
        hung_up |= io.is_some_and(|error| HANG_UPS.contains(&error.kind()));
        // An io::Error that wraps another error does not name it as its source, but that error's source.
        let wrapped = io.and_then(io::Error::get_ref).map(|inner| inner as &dyn std::error::Error);
        cause = wrapped.or_else(|| error.source());
    }
    match (error.is_connect(), untrusted) {
        (_, true) => UpstreamError::Untrusted(text),
        (true, false) => UpstreamError::Unreachable(text),
        (false, false) if by_client => UpstreamError::ClientGone(text),
        (false, false) if hung_up => UpstreamError::HungUp(text),
        (false, false) => UpstreamError::Broken(text),
    }
}
