//! The public listener: accepts connections within bounds and hands each to its own task.

mod answers;
mod bounds;
mod conn;
mod offered;
mod phase;
mod rest;
mod timeouts;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

use self::bounds::Bounds;
pub(crate) use self::tls::Certificates;
use crate::config::Limits;
use crate::http::layers::HttpService;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// After a failed accept (no file descriptors, mostly): a moment for connections to end, instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted; the kernel's `net.core.somaxconn` (4096 on Linux) may allow fewer. The library's
/// own 128 are few for a burst: whoever does not fit waits a second, for TCP to try again.
const BACKLOG: u32 = 4_096;

/// Opens the public port.
///
/// # Errors
/// When it is taken or not ours to open.
pub(crate) fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // So that a restart need not wait for connections of the last run to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// The public listener.
pub(crate) struct Listener {
    /// Bound already.
    pub(crate) socket: TcpListener,
    /// `None`: plain HTTP, because TLS ends in front of us.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// How many connections may be open.
    pub(crate) max_connections: usize,
    /// Bounds on what one of them may hold, send, and wait for.
    pub(crate) limits: Limits,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
    /// Soft stop: no new connections; those that are open finish what they do.
    pub(crate) shutdown: Shutdown,
}

impl Listener {
    /// The address that was bound.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the soft stop. `serve` makes the application for a connection from an address.
    pub(crate) async fn run<S: HttpService>(self, serve: impl Fn(IpAddr) -> S + Send + 'static) {
        self.metrics.connections_max.set(i64::try_from(self.max_connections).unwrap_or(i64::MAX));
        let bounds = Bounds::new(self.max_connections, self.limits.connections_per_address, &self.metrics);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.shutdown.begun() => return,
            };
            let (stream, peer) = match accepted {
                Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    self.refuse("accept_failed");
                    let _pause = tokio::time::timeout(ACCEPT_PAUSE, self.shutdown.begun()).await;
                    continue;
                }
            };
            match bounds.admit(peer) {
                Err(reason) => self.refuse(reason),
                Ok(admission) => {
                    let connection = conn::Connection {
                        stream,
                        certificates: self.certificates.clone(),
                        service: serve(peer),
                        limits: self.limits,
                        admission,
                        shutdown: self.shutdown.clone(),
                        metrics: self.metrics.clone(),
                    };
                    self.shutdown.spawn("connection", connection.serve());
                }
            }
        }
    }

    fn refuse(&self, reason: &str) {
        self.metrics.connections_refused.with_label_values(&[reason]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::future::join_all;
    use tokio::net::TcpStream;

    use super::*;

    /// A burst of connections finds room before any of them is accepted.
    #[tokio::test]
    async fn a_burst_of_connections_finds_room() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = listener.local_addr().unwrap();
        let burst = join_all((0..400).map(|_| TcpStream::connect(addr)));
        let connected = tokio::time::timeout(Duration::from_millis(900), burst).await;
        let connected = connected.expect("nobody waits for TCP to try again");
        assert!(connected.iter().all(Result::is_ok));
    }
}
