//! All metrics: one struct, one private registry. The help text of a metric is what a reader of `/metrics` sees.
//!
//! Labels are small enumerations: never a path, a user or anything that a client chose.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Seconds, from an answer out of our own memory to a slow list of a large cluster.
const LATENCY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Lines of the log, by `outcome` (written, dropped). There is one log in a process, and it begins before all else.
pub(crate) static LOG_LINES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    IntCounterVec::new(opts("log_lines_total", "Lines of the log."), &["outcome"]).expect("a valid name")
});

/// Bytes of the log that wait for standard output.
pub(crate) static LOG_QUEUE_BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    let opts = opts("log_queue_bytes", "Bytes of the log that wait for standard output.");
    IntGauge::with_opts(opts).expect("a valid name")
});

/// Every metric of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Requests answered, by `kind` (kubernetes, page) and status `class` (1xx to 5xx).
    pub(crate) requests: IntCounterVec,
    /// Time from a request's head to its answer's head, by `kind`.
    pub(crate) request_seconds: HistogramVec,
    /// Errors of our own, by `reason` (as in the `Entrada-Reason` header).
    pub(crate) problems: IntCounterVec,
    /// Open client connections.
    pub(crate) connections: IntGauge,
    /// Connections that were closed before they were served, by `reason`.
    pub(crate) connections_refused: IntCounterVec,
    /// Open streams, by `kind` (watch, follow, tunnel).
    pub(crate) streams: IntGaugeVec,
    /// Calls to Entra's token endpoint, by `grant` and `outcome`.
    pub(crate) entra_calls: IntCounterVec,
    /// Time of calls to Entra's token endpoint.
    pub(crate) entra_seconds: Histogram,
    /// Sign-ins, by `outcome` (completed, refused).
    pub(crate) sign_ins: IntCounterVec,
    /// Sessions that this process knows.
    pub(crate) sessions: IntGauge,
    /// Whether the session store answers: 1 or 0.
    pub(crate) store_up: IntGauge,
    /// Reloads of files, by `file` (certificate, api_server_ca) and `outcome` (ok, failed).
    pub(crate) reloads: IntCounterVec,
    /// Audit events, by `outcome` (written, dropped).
    pub(crate) audit_events: IntCounterVec,
    /// Bytes of audit events that are accepted and not written yet.
    pub(crate) audit_queue_bytes: IntGauge,
    /// Attempts to write audit events that failed; each is made again.
    pub(crate) audit_sink_failures: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let r = &registry;
        add(r, Ok(LOG_LINES.clone()));
        add(r, Ok(LOG_QUEUE_BYTES.clone()));
        Self {
            requests: counters(r, "requests_total", "Requests answered.", &["kind", "class"]),
            request_seconds: add(
                r,
                HistogramVec::new(
                    histogram("request_seconds", "From a request's head to its answer's head."),
                    &["kind"],
                ),
            ),
            problems: counters(r, "problems_total", "Errors of Entrada's own.", &["reason"]),
            connections: add(r, IntGauge::with_opts(opts("connections", "Open client connections."))),
            connections_refused: counters(
                r,
                "connections_refused_total",
                "Connections closed before they were served.",
                &["reason"],
            ),
            streams: add(r, IntGaugeVec::new(opts("streams", "Open streams."), &["kind"])),
            entra_calls: counters(
                r,
                "entra_token_calls_total",
                "Calls to Entra's token endpoint.",
                &["grant", "outcome"],
            ),
            entra_seconds: add(
                r,
                Histogram::with_opts(histogram(
                    "entra_token_seconds",
                    "Time of calls to the token endpoint.",
                )),
            ),
            sign_ins: counters(r, "sign_ins_total", "Sign-ins that came back from Entra.", &["outcome"]),
            sessions: add(r, IntGauge::with_opts(opts("sessions", "Sessions that this process knows."))),
            store_up: add(
                r,
                IntGauge::with_opts(opts("store_up", "Whether the session store answers: 1 or 0.")),
            ),
            reloads: counters(
                r,
                "reloads_total",
                "Reloads of certificate and CA files.",
                &["file", "outcome"],
            ),
            audit_events: counters(
                r,
                "audit_events_total",
                "Audit events, by what became of them.",
                &["outcome"],
            ),
            audit_queue_bytes: gauge(
                r,
                "audit_queue_bytes",
                "Bytes of audit events that are not written yet.",
            ),
            audit_sink_failures: add(
                r,
                IntCounter::with_opts(opts(
                    "audit_sink_failures_total",
                    "Attempts to write audit events that failed.",
                )),
            ),
            registry,
        }
    }
}

impl Metrics {
    /// The Prometheus text format, version 0.0.4.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("entrada")
}

fn histogram(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("entrada").buckets(LATENCY_BUCKETS.to_vec())
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    add(registry, IntGauge::with_opts(opts(name, help)))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    add(registry, IntCounterVec::new(opts(name, help), labels))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("names and labels above are valid");
    registry.register(Box::new(metric.clone())).expect("names above are distinct");
    metric
}
