//! Figures as they are printed: one line each, with what they are of.

use std::time::Duration;

/// Prints a figure of a scenario.
pub(crate) fn print(scenario: &str, what: &str, value: impl std::fmt::Display) {
    println!("{scenario:<10} {what:<66} {value}");
}

/// Median, 99th percentile and maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Spread {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        Self { count: times.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        let Self { count, p50, p99, max } = *self;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms of {count}", ms(p50), ms(p99), ms(max))
    }
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1} MiB", Duration::from_micros(kib).as_secs_f64() * 1e6 / 1_024.0)
}

/// What one of `count` things costs, in KiB.
pub(crate) fn each(before_kib: u64, after_kib: u64, count: u64) -> String {
    let (grown, rest) = (after_kib.saturating_sub(before_kib) * 10 / count, 10);
    format!("{}.{} KiB", grown / rest, grown % rest)
}

/// # Panics
/// When ordinary requests took more than twice as long beside a load as without it.
pub(crate) fn assert_hardly_noticed([idle, busy]: [Spread; 2]) {
    assert!(busy.p99 <= idle.p99 * 2, "beside the load {busy}; without it {idle}");
}
