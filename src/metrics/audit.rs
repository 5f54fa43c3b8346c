//! The audit log's metrics.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{add, counters, gauge, opts};

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
        let metrics = Self {
            events: counters(registry, "audit_events_total", &["outcome"]),
            queue_bytes: gauge(registry, "audit_queue_bytes"),
            sink_failures: add(registry, IntCounter::with_opts(opts("audit_sink_failures_total"))),
        };
        // So that both are there before the first is counted.
        for outcome in ["written", "dropped"] {
            metrics.events.with_label_values(&[outcome]);
        }
        metrics
    }
}
