//! The connection pool, the CA it trusts, and what hyper's errors mean as a [`TransportError`].

use std::io;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use tokio::net::TcpStream;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;

use super::TransportError;
use super::outgoing::Outgoing;
use crate::tls;

/// Shorter than the API server's own, which would otherwise close a connection just as we use it.
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

/// What waits for a client that does not read: in the kernel, which would otherwise take 6 MiB for each, and in our own
/// memory. 256 KiB keep a connection within the region busy at more than 100 MB/s.
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Connects within a time that includes the TLS handshake. Boxed because the pool wants its future unpinned.
type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, tower::BoxError>;
pub(super) type Pool = legacy::Client<Connector, Outgoing>;

/// A pool that trusts `roots` and nobody else; without any it speaks plain HTTP. `connect_timeout` includes the TLS
/// handshake.
///
/// # Errors
/// When the cryptography library lacks what TLS needs.
pub(super) fn pool(roots: Option<RootCertStore>, connect_timeout: Duration) -> anyhow::Result<Pool> {
    let is_plain = roots.is_none();
    let tls = tls::client(roots.unwrap_or_else(RootCertStore::empty))?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_recv_buffer_size(Some(RECEIVE_BUFFER_BYTES));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    // Offers HTTP/1.1 alone: ALPN decides the protocol, not the request's version.
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = if is_plain { connector.https_or_http() } else { connector.https_only() };
    let connector = connector.enable_http1().wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS)
        // A pooled connection that the server closed before anything was sent is replaced by a new one.
        .retry_canceled_requests(true)
        .http1_max_buf_size(READ_BUFFER_BYTES)
        .set_host(true)
        .build(BoxCloneSyncService::new(Timeout::new(connector, connect_timeout))))
}

/// What an error of the pool means. The whole chain is looked at, because each layer wraps the one below.
pub(super) fn describe(error: &Error) -> TransportError {
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
        (_, true) => TransportError::Untrusted(text),
        (true, false) => TransportError::Unreachable(text),
        (false, false) if by_client => TransportError::ClientGone(text),
        (false, false) if hung_up => TransportError::HungUp(text),
        (false, false) => TransportError::Broken(text),
    }
}
