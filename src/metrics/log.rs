//! The log's metrics. There is one log in a process, and it begins before all else: so these are the process's, too.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::{add, opts};

/// By `outcome` (written, dropped).
pub(crate) static LOG_LINES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let lines = IntCounterVec::new(opts("log_lines_total"), &["outcome"]);
    let lines = lines.expect("a valid name");
    for outcome in ["written", "dropped"] {
        lines.with_label_values(&[outcome]);
    }
    lines
});

pub(crate) static LOG_QUEUE_BYTES: LazyLock<IntGauge> =
    LazyLock::new(|| IntGauge::with_opts(opts("log_queue_bytes")).expect("a valid name"));

pub(super) fn register(registry: &Registry) {
    add(registry, Ok(LOG_LINES.clone()));
    add(registry, Ok(LOG_QUEUE_BYTES.clone()));
}
