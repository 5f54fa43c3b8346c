//! A TLS connection on which a test writes and reads bytes itself.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{PATIENCE, World};

/// A client that trusts the world's authority alone, and offers no protocol.
pub(crate) fn client(world: &World) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A connection to Entrada that speaks HTTP/1.1 by ALPN, or whatever a test writes.
pub(crate) struct Wire(pub(crate) TlsStream<TcpStream>);

impl Wire {
    pub(crate) async fn open(world: &World) -> Self {
        Self::open_with(world, b"http/1.1").await
    }

    pub(crate) async fn open_with(world: &World, protocol: &[u8]) -> Self {
        Self::open_at(world, world.entrada.addr, protocol).await
    }

    /// To another replica.
    pub(crate) async fn open_at(world: &World, addr: SocketAddr, protocol: &[u8]) -> Self {
        let mut config = client(world);
        config.alpn_protocols = vec![protocol.to_vec()];
        Self::connect(addr, "localhost", &Arc::new(config)).await.unwrap()
    }

    /// Opened for a host by that name, as this client does it.
    pub(crate) async fn open_for(
        world: &World,
        host: &str,
        client: &Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        Self::connect(world.entrada.addr, host, client).await
    }

    async fn connect(addr: SocketAddr, host: &str, client: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(client.clone()).connect(name, stream).await.map(Self)
    }

    /// The certificate that Entrada presented.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads until what was read ends with `end`.
    pub(crate) async fn read_to(&mut self, end: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        let reading = async {
            while !read.ends_with(end) {
                read.push(self.0.read_u8().await.unwrap());
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "{}", String::from_utf8_lossy(&read));
        read
    }

    /// The head of the next answer.
    pub(crate) async fn head(&mut self) -> String {
        String::from_utf8(self.read_to(b"\r\n\r\n").await).unwrap()
    }

    /// Everything until the other side closes, and whether it closed as it should.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut read = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut read)).await;
        (read, closed.expect("the connection is not closed").is_ok())
    }
}
