//! Which events are logged.

use tracing_subscriber::EnvFilter;

use super::check::{Checker, given};

/// Our own events from `info` up; of the libraries, warnings.
const DEFAULT: &str = "warn,entrada=info";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Checker {
    /// The directive of the log's filter.
    pub(super) fn log_filter(&mut self, value: Option<&str>) -> String {
        let text = given(value).unwrap_or(DEFAULT);
        // The filter itself takes `inof` for the name of a module, all of whose events are wanted.
        let named = text.split(',').all(|part| {
            let level = part.rsplit('=').next().unwrap_or_default().trim();
            LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known))
        });
        if !named || EnvFilter::try_new(text).is_err() {
            let fix = "must be a level (off, error, warn, info, debug, trace), or a list such as warn,entrada=debug";
            self.fault("ENTRADA_LOG", format!("is `{text}`"), fix);
        }
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level alone, and levels of modules, are read; what is neither is a fault and no silence.
    #[test]
    fn a_directive_is_a_list_of_levels() {
        let faults = |text| {
            let mut checker = Checker::default();
            checker.log_filter(Some(text));
            checker.into_faults()
        };
        for right in ["", "info", "WARN", "entrada=debug,warn", "warn,entrada::session=trace,hyper=off"] {
            assert!(faults(right).is_empty(), "{right}");
        }
        for wrong in ["inof", "entrada", "entrada=loud", "warn,", "=info=", "debug entrada"] {
            assert!(!faults(wrong).is_empty(), "{wrong}");
        }
    }
}
