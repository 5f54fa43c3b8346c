//! The public listener: accepts connections within bounds and hands each to its own task.

mod answers;
mod bounds;
mod conn;
mod phase;
mod rest;
mod timeouts;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use self::bounds::Bounds;
pub(crate) use self::tls::Certificates;
use crate::config::Limits;
use crate::http::layers::HttpService;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// After a failed accept (no file descriptors, mostly): a moment for connections to end, instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    pub(crate) async fn run(self, serve: impl Fn(IpAddr) -> HttpService + Send + 'static) {
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
