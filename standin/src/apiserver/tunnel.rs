//! Upgraded connections: whom they belong to, and two of an invented protocol, to prove that tunnels are opaque.

use std::future::Future;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::{Answer, Call};
use super::record::Entry;
use super::status::Failure;
use crate::serve::{Wire, full, reset};

/// The tunnels of one run of the listener; they end with it.
#[derive(Clone, Default)]
pub(crate) struct Tunnels {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Tunnels {
    /// Runs `talk` over the call's connection once it has switched protocols.
    pub(crate) fn spawn<F>(
        &self,
        call: &Call,
        upgrade: OnUpgrade,
        talk: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let entry = call.entry.clone();
        let tunnel = async move {
            let _open = entry;
            if let Ok(upgraded) = upgrade.await {
                talk(TokioIo::new(upgraded)).await;
            }
        };
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(tunnel));
    }

    /// Cuts every tunnel.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Cuts every tunnel and waits until all are gone.
    pub(crate) async fn kill(&self) {
        self.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Answers `/standin/upgrade` (101 with the caller's own token, then an echo: see [`Echo`]) and
/// `/standin/refuse-upgrade` (403).
pub(crate) fn answer(call: &Call, tunnels: &Tunnels, upgrade: OnUpgrade) -> Answer {
    match call.target.path.as_str() {
        "/standin/upgrade" => {
            let token = call.headers().get(UPGRADE).cloned();
            let token = token.ok_or_else(|| Failure::bad_request("Upgrade request required"))?;
            let number = |name| call.query.number(name).and_then(|count| usize::try_from(count).ok());
            let echo = Echo {
                bye: number("bye"),
                close: number("close"),
                reset: number("reset"),
                cut: number("cut"),
                entry: call.entry.clone(),
            };
            if let (Some(greeting), Some(wire)) =
                (call.query.get("greet"), call.head.extensions.get::<Wire>())
            {
                wire.append(greeting.to_owned());
            }
            tunnels.spawn(call, upgrade, |tunnel| echo.run(tunnel));
            Ok(switching(token))
        }
        "/standin/refuse-upgrade" => {
            let text = "this upgrade is refused, and this body says so\n";
            Ok(super::call::bytes(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", text))
        }
        _ => Err(Failure::no_such_path()),
    }
}

/// The head that switches to the protocol named by `token`.
pub(crate) fn switching(token: HeaderValue) -> Response<crate::serve::Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, token);
    response
}

/// Sends back what comes. The caller may close its half first and still read the rest.
///
/// The query changes that: `greet=TEXT` is sent in one piece with the 101. After so many bytes were sent back, `bye=N`
/// closes our half (and goes on listening), `close=N` closes in order and listens no more, whatever is still under way,
/// `cut=N` hangs up without a word, and `reset=N` resets the connection.
struct Echo {
    bye: Option<usize>,
    close: Option<usize>,
    cut: Option<usize>,
    reset: Option<usize>,
    entry: Entry,
}

impl Echo {
    async fn run(self, mut tunnel: TokioIo<Upgraded>) {
        let mut buffer = vec![0; 64 * 1024];
        let end = self.bye.or(self.close).or(self.cut).or(self.reset).unwrap_or(usize::MAX);
        let mut left = end;
        while left > 0 {
            let Ok(count @ 1..) = tunnel.read(&mut buffer).await else { break };
            self.entry.edit(|own| own.heard_bytes += count);
            let back = buffer.get(..count.min(left)).unwrap_or_default();
            if tunnel.write_all(back).await.is_err() || tunnel.flush().await.is_err() {
                return;
            }
            left -= back.len();
        }
        if self.reset.is_some() {
            return reset(tunnel.into_inner());
        }
        if self.cut.is_some() {
            return;
        }
        let _gone = tunnel.shutdown().await;
        if self.close.is_some() {
            return;
        }
        while let Ok(count @ 1..) = tunnel.read(&mut buffer).await {
            self.entry.edit(|own| own.heard_bytes += count);
        }
    }
}
