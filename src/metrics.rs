//! All metrics: one struct, one private registry. The help text of a metric is what a reader of `/metrics` sees; what to
//! do with each stands in docs/metrics.md.
//!
//! Labels are small enumerations: never a path, a user or anything that a client chose.

mod audit;
pub(crate) mod labels;
mod log;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use self::audit::AuditMetrics;
pub(crate) use self::log::{LOG_LINES, LOG_QUEUE_BYTES};

/// Seconds, from an answer out of our own memory to a slow list of a large cluster.
const LATENCY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds, for what should be too short to be noticed.
const ADDED_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];

/// Every metric of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// By `kind` (kubernetes, page), `verb`, `resource` (of a page, its name) and `code`; see [`labels`].
    pub(crate) requests: IntCounterVec,
    /// By `kind`.
    pub(crate) request_seconds: HistogramVec,
    /// Entrada's own part of a forwarded request's time.
    pub(crate) added_seconds: Histogram,
    /// By `reason`, as in the `Entrada-Reason` header.
    pub(crate) problems: IntCounterVec,
    /// By `limit`: a setting's name without `ENTRADA_` and in lower case.
    pub(crate) limits_hit: IntCounterVec,
    pub(crate) connections: IntGauge,
    /// By `reason`.
    pub(crate) connections_refused: IntCounterVec,
    /// By `kind` (watch, follow, tunnel).
    pub(crate) streams: IntGaugeVec,
    /// By `kind` and `reason` (client, upstream, credential, stopping).
    pub(crate) streams_ended: IntCounterVec,
    /// By `source` (memory, store).
    pub(crate) credential_lookups: Cache,
    /// By `source` (memory, entra).
    pub(crate) aks_tokens: Cache,
    /// By `grant` and `outcome`.
    pub(crate) entra_calls: IntCounterVec,
    pub(crate) entra_seconds: Histogram,
    /// By `outcome` (completed, refused).
    pub(crate) sign_ins: IntCounterVec,
    pub(crate) sessions: IntGauge,
    pub(crate) store_up: IntGauge,
    pub(crate) store_seconds: Histogram,
    pub(crate) store_failures: IntCounter,
    /// By `file` (certificate, api_server_ca) and `outcome` (ok, failed).
    pub(crate) reloads: IntCounterVec,
    pub(crate) audit: AuditMetrics,
}

/// What was at hand, and what had to be fetched. Looked up once, because each request counts here.
#[derive(Debug)]
pub(crate) struct Cache {
    hits: IntCounter,
    misses: IntCounter,
}

impl Cache {
    fn new(registry: &Registry, name: &str, help: &str, elsewhere: &str) -> Self {
        let sources = counters(registry, name, help, &["source"]);
        let source = |label| sources.with_label_values(&[label]);
        Self { hits: source("memory"), misses: source(elsewhere) }
    }

    pub(crate) fn count(&self, is_hit: bool) {
        if is_hit { self.hits.inc() } else { self.misses.inc() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let r = &registry;
        build_info(r);
        process(r);
        log::register(r);
        let (entra_calls, entra_seconds) = entra_metrics(r);
        let (store_up, store_seconds, store_failures) = store_metrics(r);
        let (streams, streams_ended) = stream_metrics(r);
        let (credential_lookups, aks_tokens) = cache_metrics(r);
        Self {
            requests: counters(
                r,
                "requests_total",
                "Requests answered, or left by their client (499).",
                &["kind", "verb", "resource", "code"],
            ),
            request_seconds: add(
                r,
                HistogramVec::new(
                    histogram(
                        "request_seconds",
                        "From a request's head to its answer's head.",
                        LATENCY_BUCKETS,
                    ),
                    &["kind"],
                ),
            ),
            added_seconds: seconds(
                r,
                "added_seconds",
                "Of that, Entrada's own part: without the API server, and without waiting for the client's body.",
                ADDED_BUCKETS,
            ),
            problems: counters(r, "problems_total", "Refusals and errors of Entrada's own.", &["reason"]),
            limits_hit: counters(r, "limits_hit_total", "Requests that exceeded a limit.", &["limit"]),
            connections: gauge(r, "connections", "Open client connections."),
            connections_refused: counters(
                r,
                "connections_refused_total",
                "Connections closed before they were served.",
                &["reason"],
            ),
            streams,
            streams_ended,
            credential_lookups,
            aks_tokens,
            entra_calls,
            entra_seconds,
            sign_ins: counters(r, "sign_ins_total", "Sign-ins that came back from Entra.", &["outcome"]),
            sessions: gauge(r, "sessions", "Sessions that this process knows."),
            store_up,
            store_seconds,
            store_failures,
            reloads: counters(
                r,
                "reloads_total",
                "Reloads of certificate and CA files.",
                &["file", "outcome"],
            ),
            audit: AuditMetrics::new(r),
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

/// Calls to Entra.
fn entra_metrics(r: &Registry) -> (IntCounterVec, Histogram) {
    let entra_calls =
        counters(r, "entra_token_calls_total", "Calls to Entra's token endpoint.", &["grant", "outcome"]);
    let entra_seconds =
        seconds(r, "entra_token_seconds", "Time of calls to the token endpoint.", LATENCY_BUCKETS);
    (entra_calls, entra_seconds)
}

/// The session store.
fn store_metrics(r: &Registry) -> (IntGauge, Histogram, IntCounter) {
    let store_up = gauge(r, "store_up", "Whether the session store answers: 1 or 0.");
    let store_seconds = seconds(
        r,
        "store_seconds",
        "Time of calls to the session store, where it is Redis.",
        LATENCY_BUCKETS,
    );
    let store_failures = counter(r, "store_failures_total", "Calls to the session store that failed.");
    (store_up, store_seconds, store_failures)
}

/// Open streams, and those that have ended.
fn stream_metrics(r: &Registry) -> (IntGaugeVec, IntCounterVec) {
    let streams = add(r, IntGaugeVec::new(opts("streams", "Open streams."), &["kind"]));
    let streams_ended = counters(
        r,
        "streams_ended_total",
        "Streams that have ended, by who or what ended them.",
        &["kind", "reason"],
    );
    (streams, streams_ended)
}

/// What was at hand, and what was not.
fn cache_metrics(r: &Registry) -> (Cache, Cache) {
    let credential_lookups = Cache::new(
        r,
        "credential_lookups_total",
        "Accepted credentials of requests, by where they were found.",
        "store",
    );
    let aks_tokens = Cache::new(
        r,
        "aks_tokens_total",
        "AKS tokens for requests: from memory, or after a wait for Entra.",
        "entra",
    );
    (credential_lookups, aks_tokens)
}

/// Always 1; the version is a label.
fn build_info(registry: &Registry) {
    let opts = opts("build_info", "The version that runs.").const_label("version", env!("CARGO_PKG_VERSION"));
    add(registry, IntGauge::with_opts(opts)).set(1);
}

/// Processor time, memory, file descriptors and start time of this process, by the names that all exporters give them.
#[cfg(target_os = "linux")]
fn process(registry: &Registry) {
    let collector = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(collector)).expect("its names are not ours");
}

/// There is no `/proc` to read them from.
#[cfg(not(target_os = "linux"))]
fn process(_registry: &Registry) {}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("entrada")
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("entrada").buckets(buckets.to_vec())
}

fn seconds(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    add(registry, Histogram::with_opts(histogram(name, help, buckets)))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    add(registry, IntGauge::with_opts(opts(name, help)))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    add(registry, IntCounter::with_opts(opts(name, help)))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    add(registry, IntCounterVec::new(opts(name, help), labels))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("names and labels above are valid");
    registry.register(Box::new(metric.clone())).expect("names above are distinct");
    metric
}
