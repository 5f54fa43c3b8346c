//! How much is measured.

use std::time::{Duration, Instant};

/// All that can be asked, in the order in which it is measured.
const QUESTIONS: [&str; 7] = ["start", "cpu", "latency", "watches", "tunnels", "handshakes", "flat"];

/// What `make bench` was asked for.
pub struct Plan {
    /// `BENCH_QUICK=1`: for a developer who wants an answer within a minute or two. Writes no page.
    pub quick: bool,
    /// `BENCH_ONLY=cpu,watches`: these questions and no others.
    only: Option<Vec<String>>,
    began: Instant,
}

impl Plan {
    /// By the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let quick = std::env::var("BENCH_QUICK").is_ok_and(|value| value != "0" && !value.is_empty());
        let only = std::env::var("BENCH_ONLY").ok();
        let only = only.map(|names| names.split(',').map(|name| name.trim().to_owned()).collect());
        Self { quick, only, began: Instant::now() }
    }

    /// What was asked.
    pub fn questions(&self) -> impl Iterator<Item = &'static str> {
        QUESTIONS.into_iter().filter(|question| self.wants(question))
    }

    /// # Errors
    /// When something was asked that is not measured.
    pub fn check(&self) -> anyhow::Result<()> {
        let is_unknown = |name: &&String| !QUESTIONS.contains(&name.as_str());
        let unknown = self.only.iter().flatten().find(is_unknown);
        unknown.map_or(Ok(()), |name| anyhow::bail!("BENCH_ONLY: {name} is none of {}", QUESTIONS.join(", ")))
    }

    /// Says what goes on, to whoever waits.
    #[expect(clippy::print_stderr, reason = "beside the figures on standard output")]
    pub fn tell(&self, what: &str) {
        eprintln!("bench: {:>4} s  {what}", self.began.elapsed().as_secs());
    }

    fn wants(&self, question: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == question))
    }

    /// How many times everything is measured.
    #[must_use]
    pub fn rounds(&self) -> usize {
        5
    }

    /// How long a load is on before it is measured, and then how long that takes.
    #[must_use]
    pub fn window(&self) -> (Duration, Duration) {
        let milliseconds = if self.quick { (300, 800) } else { (400, 1_500) };
        (Duration::from_millis(milliseconds.0), Duration::from_millis(milliseconds.1))
    }
}

/// Lets this much time pass: what is measured goes on in other tasks and processes.
pub async fn pass(time: Duration) {
    let _passed = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
