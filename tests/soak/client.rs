//! Clients: connections over TLS in HTTP/1.1 and HTTP/2, requests with a token, and a steady stream of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use standin::pki::Ca;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::figures::Spread;
use super::world::Account;

/// Longer than any answer here takes; only a fault makes a client wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type H1 = http1::SendRequest<Empty<Bytes>>;
pub(crate) type H2 = http2::SendRequest<Empty<Bytes>>;

/// Opens connections that trust the stand-in authority.
#[derive(Clone)]
pub(crate) struct Dialer {
    h1: TlsConnector,
    h2: TlsConnector,
}

impl Dialer {
    pub(crate) fn new(ca: &Ca) -> Self {
        let connector = |protocol: &[u8]| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Self { h1: connector(b"http/1.1"), h2: connector(b"h2") }
    }

    /// A connection for HTTP/1.1 by ALPN, on which nothing was said yet.
    pub(crate) async fn tls_h1(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        connect(&self.h1, addr).await
    }

    /// A connection by this connector, with so much room for what is not read yet.
    async fn small(
        connector: &TlsConnector,
        addr: SocketAddr,
        receive_buffer_bytes: u32,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(receive_buffer_bytes)?;
        let stream = socket.connect(addr).await?;
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// As `tls_h1`, with so much room for what is not read yet.
    pub(crate) async fn tls_small_h1(
        &self,
        addr: SocketAddr,
        bytes: u32,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        Self::small(&self.h1, addr, bytes).await
    }

    /// As `tls_h2`, with so much room for what is not read yet.
    pub(crate) async fn tls_small_h2(
        &self,
        addr: SocketAddr,
        bytes: u32,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        Self::small(&self.h2, addr, bytes).await
    }

    /// The same as `tls_h1` for HTTP/2.
    pub(crate) async fn tls_h2(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        connect(&self.h2, addr).await
    }

    pub(crate) async fn h1(&self, addr: SocketAddr) -> anyhow::Result<H1> {
        let stream = TokioIo::new(self.tls_h1(addr).await?);
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    pub(crate) async fn h2(&self, addr: SocketAddr) -> anyhow::Result<H2> {
        let stream = TokioIo::new(self.tls_h2(addr).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn connect(connector: &TlsConnector, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

pub(crate) fn bearer(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).unwrap()
}

/// A request for HTTP/1.1.
pub(crate) fn get(path: &str, token: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(path).header(HOST, "localhost").header(AUTHORIZATION, bearer(token));
    request.body(Empty::new()).unwrap()
}

/// A request for HTTP/2.
pub(crate) fn get_h2(path: &str, token: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(format!("https://localhost{path}")).header(AUTHORIZATION, bearer(token));
    request.body(Empty::new()).unwrap()
}

/// The whole of an answer: its status and how long its body was.
pub(crate) async fn whole(response: Response<Incoming>) -> anyhow::Result<(u16, usize)> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, body.len()))
}

/// A small list over a connection that stays.
pub(crate) async fn list(sender: &mut H1, account: &Account) -> anyhow::Result<u16> {
    let exchange = async {
        sender.ready().await?;
        whole(sender.send_request(get(&account.pods(), &account.token)).await?).await
    };
    let (status, bytes) = tokio::time::timeout(PATIENCE, exchange).await??;
    anyhow::ensure!(bytes > 0, "an empty answer");
    Ok(status)
}

/// Requests at a steady rate, each due at its own moment whether or not the one before was answered in time: a stall
/// counts for all that it held up.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) per_second: u32,
    pub(crate) connections: u32,
    pub(crate) lasts: Duration,
}

/// A proxy, and who asks there.
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    pub(crate) account: Account,
}

/// Ordinary requests of one user, as they are timed beside whatever else goes on.
pub(crate) const PACE: Pace = Pace { per_second: 200, connections: 8, lasts: Duration::from_secs(5) };
/// So many windows are timed, and the one with the middle p99 counts: the machine has other work, too.
const WINDOWS: usize = 3;

impl Pace {
    /// Times an idle proxy and a busy one in turn, so that whatever else this machine does meets both; of each, the
    /// window with the middle p99. `load` is told when the busy one's windows begin and end.
    pub(crate) async fn side_by_side(
        self,
        dialer: &Dialer,
        idle: &Front,
        busy: &Front,
        load: impl Fn(bool),
    ) -> [Spread; 2] {
        let (mut idles, mut busies) = (Vec::new(), Vec::new());
        for _ in 0..WINDOWS {
            idles.push(Spread::of(self.run(dialer, idle.addr, &idle.account).await));
            load(true);
            busies.push(Spread::of(self.run(dialer, busy.addr, &busy.account).await));
            load(false);
        }
        [middle(idles), middle(busies)]
    }

    /// Times an idle proxy by itself, and then, while a load is on, the same idle proxy and the loaded one at the same
    /// time: what the load costs by using this machine's cores meets both, what it costs in the proxy only one.
    pub(crate) async fn with_control(
        self,
        dialer: &Dialer,
        idle: &Front,
        busy: &Front,
        load: impl Fn(),
    ) -> [Spread; 3] {
        let (mut rests, mut controls, mut busies) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..WINDOWS {
            rests.push(Spread::of(self.run(dialer, idle.addr, &idle.account).await));
            load();
            let control = self.run(dialer, idle.addr, &idle.account);
            let (control, loaded) = tokio::join!(control, self.run(dialer, busy.addr, &busy.account));
            controls.push(Spread::of(control));
            busies.push(Spread::of(loaded));
        }
        [middle(rests), middle(controls), middle(busies)]
    }

    /// How long each answer took, counted from when its request was due.
    ///
    /// # Panics
    /// When one was not a 200.
    pub(crate) async fn run(self, dialer: &Dialer, addr: SocketAddr, account: &Account) -> Vec<Duration> {
        let mut clients = JoinSet::new();
        let (begin, every) = (Instant::now(), Duration::from_secs(1) * self.connections / self.per_second);
        for n in 0..self.connections {
            let (dialer, account) = (dialer.clone(), account.clone());
            clients.spawn(async move {
                let mut sender = dialer.h1(addr).await.unwrap();
                assert_eq!(list(&mut sender, &account).await.unwrap(), 200);
                // Not all connections at the same moment.
                let mut due = tokio::time::interval_at(begin + every * n / self.connections + every, every);
                due.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut took = Vec::new();
                loop {
                    let due = due.tick().await;
                    if due >= begin + self.lasts {
                        return took;
                    }
                    assert_eq!(list(&mut sender, &account).await.unwrap(), 200);
                    took.push(due.elapsed());
                }
            });
        }
        clients.join_all().await.concat()
    }
}

/// The window with the middle p99.
fn middle(mut windows: Vec<Spread>) -> Spread {
    windows.sort_by_key(|window| window.p99);
    windows[windows.len() / 2]
}
