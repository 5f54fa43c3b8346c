//! All metrics: one struct, one private registry. The help text of a metric is what a reader of `/metrics` sees; what to
//! do with each stands in docs/metrics.md.
//!
//! Labels are small enumerations: never a path, a user or anything that a client chose.

mod audit;
pub(crate) mod labels;
mod log;
mod panics;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use self::audit::AuditMetrics;
pub(crate) use self::log::{LOG_LINES, LOG_QUEUE_BYTES};
pub(crate) use self::panics::count_panics;

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
    pub(crate) ready: IntGauge,
    /// By `kind` (kubernetes, page, dashboard), `verb`, `resource` (of a page, its name) and `code`; see [`labels`].
    pub(crate) requests: IntCounterVec,
    /// By `mount` (a host in the settings) and `code`.
    pub(crate) mount_requests: IntCounterVec,
    pub(crate) request_seconds: RequestSeconds,
    /// Entrada's own part of a forwarded request's time.
    pub(crate) added_seconds: Histogram,
    /// By `reason`, as in the `Entrada-Reason` header.
    pub(crate) problems: IntCounterVec,
    /// By `limit`: a setting's name without `ENTRADA_` and in lower case.
    pub(crate) limits_hit: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_max: IntGauge,
    /// By `reason`.
    pub(crate) connections_refused: IntCounterVec,
    /// By `kind` (watch, follow, tunnel, dashboard).
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
    pub(crate) entra_calls_waiting: IntGauge,
    /// By `state` (waiting, under_way).
    pub(crate) redemptions: IntGaugeVec,
    /// By `outcome` (completed, refused, failed).
    pub(crate) sign_ins: IntCounterVec,
    /// By `way` (loopback, device, mount) and `step`.
    pub(crate) handovers: IntCounterVec,
    pub(crate) sessions: IntGauge,
    pub(crate) store_up: IntGauge,
    pub(crate) store_seconds: Histogram,
    pub(crate) store_failures: IntCounter,
    /// By `outcome` (exported, failed, dropped).
    pub(crate) spans: IntCounterVec,
    /// By `file` (certificate, certificate_2, …, api_server_ca, mount_ca, mount_ca_2, …) and `outcome` (ok, failed).
    pub(crate) reloads: IntCounterVec,
    /// By `file`.
    pub(crate) last_reload_successful: IntGaugeVec,
    /// By `file`; not there where TLS ends in front of us.
    pub(crate) certificate_expiry: IntGaugeVec,
    pub(crate) federated_token_expiry: IntGauge,
    pub(crate) audit: AuditMetrics,
}

/// What was at hand, and what had to be fetched. Looked up once, because each request counts here.
#[derive(Debug)]
pub(crate) struct Cache {
    hits: IntCounter,
    misses: IntCounter,
}

/// By `kind`. Looked up once, because each request is timed here.
#[derive(Debug)]
pub(crate) struct RequestSeconds {
    pub(crate) kubernetes: Histogram,
    pub(crate) page: Histogram,
    pub(crate) dashboard: Histogram,
}

/// What each metric tells, as `/metrics` shows it.
const HELP: &[(&str, &str)] = &[
    ("ready", "Whether new clients should come here, as /readyz says: 1 or 0."),
    ("requests_total", "Requests answered, or left by their client (499)."),
    ("mount_requests_total", "Requests on the hosts of mounted dashboards."),
    ("request_seconds", "From a request's head to its answer's head."),
    (
        "added_seconds",
        "Of that, Entrada's own part: without the API server, and without waiting for the client's body.",
    ),
    ("problems_total", "Refusals and errors of Entrada's own."),
    ("limits_hit_total", "Requests that exceeded a limit."),
    ("connections", "Open client connections."),
    ("connections_max", "How many there may be."),
    ("connections_refused_total", "Connections closed before they were served."),
    ("streams", "Open streams."),
    ("streams_ended_total", "Streams that have ended, by who or what ended them."),
    ("credential_lookups_total", "Accepted credentials of requests, by where they were found."),
    ("aks_tokens_total", "AKS tokens for requests: from memory, or after a wait for Entra."),
    ("entra_token_calls_total", "Calls to Entra's token endpoint."),
    ("entra_token_seconds", "Time of calls to the token endpoint."),
    ("entra_calls_waiting", "Calls to Entra that wait for others to end."),
    ("redemptions", "Codes that are, or wait to be, redeemed."),
    ("sign_ins_total", "Sign-ins that came back from Entra."),
    ("handovers_total", "Steps of handing a token over to a computer, or a session to a dashboard's host."),
    ("sessions", "Sessions that this process knows."),
    ("store_up", "Whether the session store answers: 1 or 0."),
    ("store_seconds", "Time of calls to the session store, where it is Redis."),
    ("store_failures_total", "Calls to the session store that failed."),
    ("spans_total", "Spans for the collector, by what became of them."),
    ("reloads_total", "Reloads of certificate and CA files."),
    ("last_reload_successful", "Whether what a file holds now is in use: 1 or 0."),
    (
        "certificate_expiry_timestamp_seconds",
        "When a certificate that is presented to clients, or an earlier one of its chain, expires; Unix time.",
    ),
    (
        "federated_token_expiry_timestamp_seconds",
        "When the projected token that proves us to Entra expires, Unix time; 0 if it cannot be read.",
    ),
    ("audit_events_total", "Audit events."),
    ("audit_queue_bytes", "Bytes of audit events that are not written yet."),
    ("audit_sink_failures_total", "Attempts to write audit events that failed."),
    ("log_lines_total", "Lines of the log."),
    ("log_queue_bytes", "Bytes of the log that wait for standard output."),
    ("panics_total", "Panics, contained or not."),
    ("build_info", "The version that runs."),
];

impl Cache {
    fn new(registry: &Registry, name: &str, elsewhere: &str) -> Self {
        let sources = counters(registry, name, &["source"]);
        let source = |label| sources.with_label_values(&[label]);
        Self { hits: source("memory"), misses: source(elsewhere) }
    }

    pub(crate) fn count(&self, is_hit: bool) {
        if is_hit { self.hits.inc() } else { self.misses.inc() }
    }
}

impl RequestSeconds {
    fn new(registry: &Registry) -> Self {
        let seconds = HistogramVec::new(histogram("request_seconds", LATENCY_BUCKETS), &["kind"]);
        let seconds = add(registry, seconds);
        let kind = |label| seconds.with_label_values(&[label]);
        Self { kubernetes: kind("kubernetes"), page: kind("page"), dashboard: kind("dashboard") }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let r = &registry;
        build_info(r);
        process(r);
        log::register(r);
        panics::register(r);
        let metrics = Self {
            ready: gauge(r, "ready"),
            requests: counters(r, "requests_total", &["kind", "verb", "resource", "code"]),
            mount_requests: counters(r, "mount_requests_total", &["mount", "code"]),
            request_seconds: RequestSeconds::new(r),
            added_seconds: seconds(r, "added_seconds", ADDED_BUCKETS),
            problems: counters(r, "problems_total", &["reason"]),
            limits_hit: counters(r, "limits_hit_total", &["limit"]),
            connections: gauge(r, "connections"),
            connections_max: gauge(r, "connections_max"),
            connections_refused: counters(r, "connections_refused_total", &["reason"]),
            streams: gauges(r, "streams", &["kind"]),
            streams_ended: counters(r, "streams_ended_total", &["kind", "reason"]),
            credential_lookups: Cache::new(r, "credential_lookups_total", "store"),
            aks_tokens: Cache::new(r, "aks_tokens_total", "entra"),
            entra_calls: counters(r, "entra_token_calls_total", &["grant", "outcome"]),
            entra_seconds: seconds(r, "entra_token_seconds", LATENCY_BUCKETS),
            entra_calls_waiting: gauge(r, "entra_calls_waiting"),
            redemptions: gauges(r, "redemptions", &["state"]),
            sign_ins: counters(r, "sign_ins_total", &["outcome"]),
            handovers: counters(r, "handovers_total", &["way", "step"]),
            sessions: gauge(r, "sessions"),
            store_up: gauge(r, "store_up"),
            store_seconds: seconds(r, "store_seconds", LATENCY_BUCKETS),
            store_failures: add(r, IntCounter::with_opts(opts("store_failures_total"))),
            spans: counters(r, "spans_total", &["outcome"]),
            reloads: counters(r, "reloads_total", &["file", "outcome"]),
            last_reload_successful: gauges(r, "last_reload_successful", &["file"]),
            certificate_expiry: gauges(r, "certificate_expiry_timestamp_seconds", &["file"]),
            federated_token_expiry: gauge(r, "federated_token_expiry_timestamp_seconds"),
            audit: AuditMetrics::new(r),
            registry,
        };
        metrics.begin_at_zero();
        metrics
    }
}

impl Metrics {
    /// Has counters of faults there before the first fault. A counter that appears with the value 1 has not risen as
    /// Prometheus sees it, so that `increase(…) > 0` would miss the first one.
    fn begin_at_zero(&self) {
        for reason in labels::FAULTS {
            self.problems.with_label_values(&[reason]);
        }
        for limit in labels::LIMITS {
            self.limits_hit.with_label_values(&[limit]);
        }
        for reason in labels::CONNECTIONS_REFUSED {
            self.connections_refused.with_label_values(&[reason]);
        }
        for grant in labels::GRANTS {
            for outcome in labels::ENTRA_OUTCOMES {
                self.entra_calls.with_label_values(&[grant, outcome]);
            }
        }
        for outcome in labels::SIGN_INS {
            self.sign_ins.with_label_values(&[outcome]);
        }
        for file in labels::FILES {
            for outcome in ["ok", "failed"] {
                self.reloads.with_label_values(&[file, outcome]);
            }
        }
    }

    /// An answer stood still for too long, and was given up.
    pub(crate) fn stalled(&self) {
        self.limits_hit.with_label_values(&["stall_timeout"]).inc();
    }

    /// The Prometheus text format, version 0.0.4.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

/// Always 1; the version is a label.
fn build_info(registry: &Registry) {
    let opts = opts("build_info").const_label("version", env!("CARGO_PKG_VERSION"));
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

fn opts(name: &str) -> Opts {
    Opts::new(name, help(name)).namespace("entrada")
}

fn histogram(name: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help(name)).namespace("entrada").buckets(buckets.to_vec())
}

fn help(name: &str) -> &'static str {
    HELP.iter().find(|(known, _)| *known == name).expect("each metric stands in HELP").1
}

fn gauge(registry: &Registry, name: &str) -> IntGauge {
    add(registry, IntGauge::with_opts(opts(name)))
}

fn gauges(registry: &Registry, name: &str, labels: &[&str]) -> IntGaugeVec {
    add(registry, IntGaugeVec::new(opts(name), labels))
}

fn seconds(registry: &Registry, name: &str, buckets: &[f64]) -> Histogram {
    add(registry, Histogram::with_opts(histogram(name, buckets)))
}

fn counters(registry: &Registry, name: &str, labels: &[&str]) -> IntCounterVec {
    add(registry, IntCounterVec::new(opts(name), labels))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("names and labels above are valid");
    registry.register(Box::new(metric.clone())).expect("names above are distinct");
    metric
}
