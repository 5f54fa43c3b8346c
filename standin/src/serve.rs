//! One listener on a loopback port, with TLS or without: the floor that every stand-in stands on.

mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::wire::Tapped;
pub use self::wire::Wire;

/// The body of every answer of a stand-in; an error in it breaks the connection, as a crash would.
pub type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// The address that a request came from, in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A body that is complete.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Resets the connection (TCP RST), as a machine does that has lost its memory of it.
pub fn reset(upgraded: Upgraded) {
    if let Ok(parts) = upgraded.downcast::<TokioIo<Tapped<TlsStream<TcpStream>>>>() {
        parts.io.inner().inner.get_ref().0.set_zero_linger().ok();
    }
}

/// A running listener. Dropping it closes the port and every connection.
pub struct Listener {
    addr: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Listener {
    /// Listens on `addr` (port 0: any free one) and answers every request with `handler`.
    ///
    /// A handler that returns an error breaks the connection without an answer.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start<H, F>(
        addr: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        handler: H,
    ) -> anyhow::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<Response<Body>>> + Send + 'static,
    {
        Self::open(addr, Some(TlsAcceptor::from(tls)), handler).await
    }

    /// The same without TLS, as a program inside a cluster that nobody outside reaches.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start_plain<H, F>(addr: SocketAddr, handler: H) -> anyhow::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<Response<Body>>> + Send + 'static,
    {
        Self::open(addr, None, handler).await
    }

    async fn open<H, F>(addr: SocketAddr, acceptor: Option<TlsAcceptor>, handler: H) -> anyhow::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<Response<Body>>> + Send + 'static,
    {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            acceptor,
            handler,
            stop.clone(),
            tasks.clone(),
        )));
        Ok(Self { addr, stop, tasks })
    }

    /// The address that was bound.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the port and every connection at once, as a killed process would, and waits until all is gone.
    pub async fn kill(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept<H, F>(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    handler: H,
    stop: CancellationToken,
    tasks: TaskTracker,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<Response<Body>>> + Send + 'static,
{
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let connection = serve(stream, Peer(peer), acceptor.clone(), handler.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

async fn serve<H, F>(stream: TcpStream, peer: Peer, acceptor: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<Response<Body>>> + Send + 'static,
{
    stream.set_nodelay(true).ok();
    let Some(acceptor) = acceptor else { return converse(stream, false, peer, handler).await };
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    converse(stream, is_h2, peer, handler).await;
}

async fn converse<S, H, F>(stream: S, is_h2: bool, peer: Peer, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<Response<Body>>> + Send + 'static,
{
    let wire = Wire::default();
    let io = TokioIo::new(Tapped { inner: stream, wire: wire.clone() });
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(wire.clone());
        handler(request)
    });
    // A connection that its peer or a handler broke is an everyday event here, not an error of the stand-in.
    if is_h2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _broken = builder.serve_connection(io, service).await;
    } else {
        // Room for what a client may send: 60 KiB of selectors in a request line, and many headers.
        let mut builder = hyper::server::conn::http1::Builder::new();
        let builder = builder.max_buf_size(256 * 1024).max_headers(512);
        let _broken = builder.serve_connection(io, service).with_upgrades().await;
    }
}
