//! Spans for an OpenTelemetry collector. Without one configured nobody makes a [`Tracer`], and nothing here runs.
//!
//! `context` reads and writes the `traceparent` header, which joins our spans with those of who called and of the API
//! server; `otlp` writes spans as the OpenTelemetry protocol wants them; `export` sends them in batches. What a span says
//! is decided by who makes it: `record`.
//!
//! The OpenTelemetry libraries are not used: of them we would need only the encoding, which is small. The tests decode
//! it with the types that OpenTelemetry generates from the protocol's own definition.

mod context;
mod export;
mod otlp;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use self::context::Trace;
use self::export::Exporter;
pub(crate) use self::otlp::{Kind, Span, Value};
use crate::clock::Clock;
use crate::config::{Sampler, TraceConfig};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Spans that wait for their batch. As in OpenTelemetry's own libraries; with the longest that a client can cause, 16 MiB.
const QUEUE: usize = 2_048;

/// Makes spans and has them sent.
#[derive(Debug)]
pub(crate) struct Tracer {
    sampler: Sampler,
    clock: Clock,
    queue: mpsc::Sender<Box<[u8]>>,
    dropped: IntCounter,
    closing: CancellationToken,
    exporter: Mutex<Option<JoinHandle<()>>>,
}

impl Tracer {
    /// Starts the task that sends spans.
    ///
    /// # Errors
    /// When the collector's CA file cannot be loaded.
    pub(crate) fn start(
        config: &TraceConfig,
        clock: Clock,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Arc<Self>> {
        let (queue, spans) = mpsc::channel(QUEUE);
        let closing = CancellationToken::new();
        let exporter = Exporter::new(config, metrics, closing.clone())?;
        let exporter = shutdown.spawn_last("span export", exporter.run(spans));
        Ok(Arc::new(Self {
            sampler: config.sampler,
            clock,
            queue,
            dropped: metrics.spans.with_label_values(&["dropped"]),
            closing,
            exporter: Mutex::new(Some(exporter)),
        }))
    }

    /// The trace of a request with these headers: its caller's, or a new one.
    #[must_use]
    pub(crate) fn trace(&self, headers: &http::HeaderMap) -> Trace {
        Trace::of(headers, self.sampler)
    }

    /// The present.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Hands a span over. Never waits: one that finds the queue full is dropped and counted.
    pub(crate) fn send(&self, span: &Span<'_>) {
        let encoded = otlp::span(span).into_boxed_slice();
        // Closed: the process has stopped and its last batch is gone.
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = self.queue.try_send(encoded) {
            self.dropped.inc();
        }
    }

    /// Sends what was handed over so far, and nothing after it. Gives up after `patience`.
    pub(crate) async fn close(&self, patience: Duration) {
        self.closing.cancel();
        let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut exporter) = exporter else { return };
        if tokio::time::timeout(patience, &mut exporter).await.is_err() {
            exporter.abort();
            tracing::warn!(?patience, "the last spans could not be sent in time");
        }
    }
}
