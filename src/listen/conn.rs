//! One connection: TLS, then HTTP/1.1 or HTTP/2 as ALPN chose, until it ends or the process stops.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::Certificates;
use super::answers::{AnswerBody, Answers};
use super::bounds::Admission;
use super::offered::Offered;
use super::phase::Phase;
use super::rest;
use super::timeouts::{TimeoutStream, Timeouts};
use crate::config::Limits;
use crate::http::layers::HttpService;
use crate::http::unread::{InUse, Unread};
use crate::metrics::Metrics;
use crate::seldom::seldom;
use crate::shutdown::Shutdown;

/// Shorter than the four minutes after which Azure's load balancer forgets a silent connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// `TCP_NOTSENT_LOWAT`: of an answer that the client does not read, at most this much waits in the kernel, beside what
/// is on its way already; the rest stays with the API server. Linux would otherwise take up to 4 MiB for a connection,
/// which counts as the pod's memory.
const UNSENT_BYTES: u32 = 128 * 1024;
/// How long an HTTP/1.1 connection without a request stays open after the process began to stop: long enough for one that
/// is on its way to arrive and be answered with `Connection: close`.
const IDLE_WHILE_STOPPING: Duration = Duration::from_secs(5);
const MAX_HEADERS: usize = 200;
/// Each stream's own window, and room for all of them in the connection's: requests that nobody reads hold up only
/// themselves, however many they are.
const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// RFC 9113 section 6.9.1.
const H2_LARGEST_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// What waits for one slow reader in our memory.
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;

pub(super) struct Connection<S> {
    pub(super) stream: TcpStream,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: Arc<Metrics>,
}

impl<S: HttpService> Connection<S> {
    pub(super) async fn serve(self) {
        let Self { stream, certificates, service, limits, admission, shutdown, metrics } = self;
        prepare(&stream);
        match certificates {
            None => serve_h1(stream, admission, service, &limits, &shutdown, &metrics).await,
            Some(certificates) => {
                // Both boxed: a future keeps room for each place that it was moved through, and this one lives as long as the
                // connection.
                let handshake = Box::pin(TlsAcceptor::from(certificates.config()).accept(stream));
                match tokio::time::timeout(limits.handshake, handshake).await {
                    Ok(Ok(stream)) => {
                        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        let stream = Box::new(stream);
                        if is_h2 {
                            serve_h2(stream, admission, service, &limits, &shutdown, &metrics).await;
                        } else {
                            serve_h1(stream, admission, service, &limits, &shutdown, &metrics).await;
                        }
                    }
                    Ok(Err(error)) => {
                        metrics.connections_refused.with_label_values(&["handshake_failed"]).inc();
                        tracing::debug!(%error, "a TLS handshake failed");
                    }
                    Err(_) => metrics.connections_refused.with_label_values(&["handshake_slow"]).inc(),
                }
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    // A socket that refuses these options still carries bytes.
    let _unsupported = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    let _unsupported = stream.set_nodelay(true);
    let _unsupported = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}

/// At the soft stop this connection is not closed at once: its client may have sent the next request already. Each answer
/// says from then on that it is the last one, and a connection on which nothing more comes is closed after a moment.
async fn serve_h1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    admission: Admission,
    service: impl HttpService,
    limits: &Limits,
    shutdown: &Shutdown,
    metrics: &Metrics,
) {
    let phase = Phase::default();
    let stream = TimeoutStream::new(stream, admission, phase.clone(), Timeouts::of(limits), true);
    let (answers, stop) = (Answers::default(), shutdown.clone());
    let (sending, serving) = (answers.clone(), phase.clone());
    let offered = Offered::default();
    let offers = offered.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let offer = offers.note(&request);
        let (busy, phase, sending, stop) = (serving.busy(), serving.clone(), sending.clone(), stop.clone());
        let waits_to_go_on = request.headers().contains_key(EXPECT);
        let has_body = !request.body().is_end_stream();
        let in_use = has_body.then(|| InUse::attach(phase.reading(), request.extensions_mut()));
        let exchange = service.clone().oneshot(request);
        async move {
            exchange.await.map(|mut response| {
                // An answer that is there before the request's body has been sent: whoever reads that may stop at any moment,
                // and then the connection cannot be used again.
                let mut closes = stop.has_begun() || in_use.is_some_and(|in_use| in_use.is_so());
                if let Some(rest) = Unread::detach(&mut response) {
                    if rest::is_small(&rest, waits_to_go_on) {
                        stop.spawn("rest of a body", rest::read(rest, Some(phase.reading())));
                    } else {
                        // `TimeoutStream` reads on after the answer, until the client has read it and closes.
                        closes = true;
                    }
                }
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    phase.hand_over();
                    offer.iter().for_each(Offered::is_taken);
                    return response.map(AnswerBody::of_tunnel);
                }
                if closes {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                sending.send(response, busy, &phase)
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // `TimeoutStream` does this instead.
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let unused = async {
        tokio::select! {
            () = phase.unused(limits.idle) => {}
            () = async { shutdown.begun().await; phase.unused(IDLE_WHILE_STOPPING).await } => {}
        }
    };
    let ends = until(connection.as_mut(), seldom(unused), |c| c.graceful_shutdown(), std::future::pending());
    tokio::select! {
        () = ends => {}
        // What is half sent cannot be followed by anything else: the connection is closed.
        _ = seldom(answers.stalled(limits.stall)) => return metrics.stalled(),
    }
    offered.close().await;
}

async fn serve_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    admission: Admission,
    service: impl HttpService,
    limits: &Limits,
    shutdown: &Shutdown,
    metrics: &Metrics,
) {
    // For a client that negotiates HTTP/2 and then sends nothing: hyper sends PINGs only after the client's preface.
    let phase = Phase::default();
    let stream = TimeoutStream::new(stream, admission, phase.clone(), Timeouts::of(limits), false);
    let (answers, stop) = (Answers::default(), shutdown.clone());
    let (sending, serving) = (answers.clone(), phase.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        serving.hand_over();
        let (busy, phase, sending, stop) = (serving.busy(), serving.clone(), sending.clone(), stop.clone());
        let exchange = service.clone().oneshot(request);
        async move {
            exchange.await.map(|mut response| {
                // A stream whose body has come whole needs no reset.
                if let Some(rest) = Unread::detach(&mut response) {
                    stop.spawn("rest of a body", rest::read(rest, None));
                }
                sending.send(response, busy, &phase)
            })
        }
    });
    let connection_window =
        H2_STREAM_WINDOW_BYTES.saturating_mul(limits.h2_streams).min(H2_LARGEST_WINDOW_BYTES);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(limits.head)
        .max_concurrent_streams(limits.h2_streams)
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(connection_window)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let deaf = Notify::new();
    let asked_to_leave = async {
        tokio::select! {
            () = phase.unused(limits.idle) => {}
            () = shutdown.begun() => {}
            () = deaf.notified() => {}
        }
    };
    // One that stays all the same, although none of its streams is served any more, is closed.
    let stays = phase.unused(limits.head);
    let asked_to_leave = seldom(asked_to_leave);
    let ends = until(connection.as_mut(), asked_to_leave, |connection| connection.graceful_shutdown(), stays);
    let gives_up = seldom(answers.look_after(limits.stall, &deaf, || metrics.stalled()));
    tokio::select! {
        () = ends => {}
        () = gives_up => tracing::debug!("a client that does not take the end of its answers was left"),
    }
}

/// Runs the connection to its end. When `event` happens, `finish` tells it to take no new requests; it is left where it is
/// when `patience` ends after that.
async fn until<C, E>(
    mut connection: Pin<&mut C>,
    event: impl Future<Output = ()>,
    finish: impl FnOnce(Pin<&mut C>),
    patience: impl Future<Output = ()>,
) where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = event => {
            finish(connection.as_mut());
            tokio::select! {
                ended = connection => ended,
                () = patience => return tracing::debug!("a connection that was told to leave stayed"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
