//! Where what is recorded of an exchange goes.

use std::sync::Arc;

use crate::audit::{Audit, Telling};
use crate::metrics::Metrics;
use crate::trace::Tracer;

/// Metrics, audit log and traces; the log is the process's own.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: Audit,
    /// `None`: nobody wants any traces.
    pub(crate) tracer: Option<Arc<Tracer>>,
    /// Until all of them are gone, more may be told.
    _telling: Option<Telling>,
}

impl Sinks {
    /// None of it is told of anything yet.
    #[must_use]
    pub(crate) fn new(metrics: Arc<Metrics>, audit: Audit, tracer: Option<Arc<Tracer>>) -> Self {
        Self { metrics, audit, tracer, _telling: None }
    }

    /// A connection's own handle, which its exchanges share. The count of one handle for all connections would move from
    /// processor to processor with each request.
    #[must_use]
    pub(crate) fn of_connection(&self) -> Arc<Self> {
        Arc::new(Self { _telling: self.audit.telling(), ..self.clone() })
    }
}
