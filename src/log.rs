//! Structured logs: JSON lines on standard output.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Our own events from `info` up; of the libraries, warnings. `RUST_LOG` overrides it.
const DEFAULT_FILTER: &str = "warn,entrada=info";

/// Starts logging to standard output. Call it once.
pub(crate) fn init() {
    init_with(
        std::io::stdout,
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER)),
    );
}

/// Starts logging to a writer of the caller's: tests read what was logged.
pub fn init_with<W>(writer: W, filter: EnvFilter)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
    tracing_subscriber::registry().with(filter).with(json).init();
}
