//! Panics are the process's, wherever they are contained: so is their metric.

use std::panic::{set_hook, take_hook};
use std::sync::{LazyLock, Once};

use prometheus::{IntCounter, Registry};

use super::{add, opts};

static PANICS: LazyLock<IntCounter> =
    LazyLock::new(|| IntCounter::with_opts(opts("panics_total")).expect("a valid name"));

static HOOK: Once = Once::new();

/// Counts from now on; what was done at a panic so far is done all the same.
pub(crate) fn count_panics() {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            PANICS.inc();
            before(panic);
        }));
    });
}

pub(super) fn register(registry: &Registry) {
    add(registry, Ok(PANICS.clone()));
}
