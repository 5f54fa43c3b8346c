//! The audit log's metrics.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::{add, counters, opts};

/// Of events on their way to the sink.
#[derive(Debug)]
pub(crate) struct AuditMetrics {
    /// By `outcome` (written, dropped).
    pub(crate) events: IntCounterVec,
    pub(crate) queue_bytes: IntGauge,
    pub(crate) sink_failures: IntCounter,
}

impl AuditMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let named = |name: &str, help: &str| -> Opts { opts(name, help) };
        let waiting = named("audit_queue_bytes", "Bytes of audit events that are not written yet.");
        let failed = named("audit_sink_failures_total", "Attempts to write audit events that failed.");
        let metrics = Self {
            events: counters(registry, "audit_events_total", "Audit events.", &["outcome"]),
            queue_bytes: add(registry, IntGauge::with_opts(waiting)),
            sink_failures: add(registry, IntCounter::with_opts(failed)),
        };
        // So that both are there before the first is counted.
        for outcome in ["written", "dropped"] {
            metrics.events.with_label_values(&[outcome]);
        }
        metrics
    }
}
