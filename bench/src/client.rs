//! Connections over TLS, for whatever the load generators cannot do: watches, tunnels, requests one by one.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use standin::pki::Ca;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::load::Protocol;
use crate::world::Account;

/// Opens connections that trust one authority.
#[derive(Clone)]
pub struct Dialer {
    h1: TlsConnector,
    h2: TlsConnector,
}

/// A connection of one protocol.
pub enum Sender {
    /// HTTP/1.1
    H1(http1::SendRequest<Empty<Bytes>>),
    /// HTTP/2
    H2(http2::SendRequest<Empty<Bytes>>),
}

impl Dialer {
    /// Trusts this authority.
    ///
    /// # Errors
    /// When its certificate cannot be read.
    pub fn new(ca: &Ca) -> anyhow::Result<Self> {
        let connector = |protocol: Protocol| {
            let mut config = client_config(ca)?;
            config.alpn_protocols = vec![protocol.alpn().to_vec()];
            anyhow::Ok(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self { h1: connector(Protocol::H1)?, h2: connector(Protocol::H2)? })
    }

    /// A connection on which nothing was said yet.
    ///
    /// # Errors
    /// When there is none.
    pub async fn tls(&self, protocol: Protocol, addr: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let connector = match protocol {
            Protocol::H1 => &self.h1,
            Protocol::H2 => &self.h2,
        };
        Ok(connector.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// A tunnel of an invented protocol, as `kubectl exec` has one of its own.
    ///
    /// # Errors
    /// When the answer is not a 101.
    pub async fn tunnel(&self, addr: SocketAddr, account: &Account) -> anyhow::Result<TokioIo<Upgraded>> {
        let stream = TokioIo::new(self.tls(Protocol::H1, addr).await?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::get("/api/v1/namespaces/team/pods/web/exec")
            .header(HOST, "localhost")
            .header(AUTHORIZATION, account.authorization.clone())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "echo");
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        ensure!(response.status() == 101, "upgrade: {}", response.status());
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }

    /// A connection that takes requests.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(&self, protocol: Protocol, addr: SocketAddr) -> anyhow::Result<Sender> {
        let stream = TokioIo::new(self.tls(protocol, addr).await?);
        Ok(match protocol {
            Protocol::H1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection.with_upgrades());
                Sender::H1(sender)
            }
            Protocol::H2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Sender::H2(sender)
            }
        })
    }
}

/// TLS 1.3 with this authority and no other. All proxies get the same work: they exchange keys by X25519, which each of
/// them knows, and no handshake is a resumption.
fn client_config(ca: &Ca) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes())?)?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

impl Sender {
    /// Sends a GET of this path and waits for the answer's head, which must be a 200.
    ///
    /// # Errors
    /// When it is not.
    pub async fn get(&mut self, account: &Account, path: &str) -> anyhow::Result<Response<Incoming>> {
        let request = Request::get(match self {
            Self::H1(_) => path.to_owned(),
            Self::H2(_) => format!("https://localhost{path}"),
        });
        let request = request.header(AUTHORIZATION, account.authorization.clone());
        let response = match self {
            Self::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request.header(HOST, "localhost").body(Empty::new())?).await?
            }
            Self::H2(sender) => sender.send_request(request.body(Empty::new())?).await?,
        };
        ensure!(response.status() == 200, "{path}: {}", response.status());
        Ok(response)
    }

    /// Sends a POST without a body and waits for the answer's head, which must be a 200.
    ///
    /// # Errors
    /// When it is not.
    pub async fn post(&mut self, account: &Account, path: &str) -> anyhow::Result<()> {
        let Self::H1(sender) = self else { anyhow::bail!("POST is sent over HTTP/1.1") };
        let request = Request::post(path)
            .header(HOST, "localhost")
            .header(AUTHORIZATION, account.authorization.clone())
            .body(Empty::new())?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 200, "{path}: {}", response.status());
        response.into_body().collect().await?;
        Ok(())
    }

    /// The same as [`Sender::get`], and reads it to its end: how many bytes there were.
    ///
    /// # Errors
    /// When it is not a 200, or breaks.
    pub async fn read(&mut self, account: &Account, path: &str) -> anyhow::Result<usize> {
        let mut body = self.get(account, path).await?.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }
}

/// A list of so many bytes.
#[must_use]
pub fn list(bytes: usize) -> String {
    format!("/api/v1/namespaces/team/pods?limit={bytes}")
}

/// A watch.
pub const WATCH: &str = "/api/v1/namespaces/team/configmaps?watch=true";
