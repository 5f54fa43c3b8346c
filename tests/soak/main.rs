//! Load and faults: the release binary, in a process of its own, between stand-ins and thousands of clients.
//!
//! `make soak` runs it; no plain `cargo test` does, because it takes minutes and both cores. Everything is on loopback
//! and bounded in number and time. Each test asserts what the data plane promises and prints what it measured;
//! `docs/measurements.md` keeps the figures. Clients and API server live in this process, so that what the kernel tells
//! of the other one is Entrada's alone. `SOAK_ENTRADA` names another binary to measure, such as one from before a
//! change.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(clippy::print_stdout, reason = "figures are what this is for")]

mod baseline;
mod client;
mod cost;
mod failover;
mod figures;
mod floods;
mod frames;
mod hostile;
mod load;
mod process;
mod replicas;
mod restart;
mod rollout;
mod service;
mod stalled;
mod store;
mod tunnels;
mod upstream;
mod watches;
mod world;

use std::future::Future;
use std::time::Duration;

pub(crate) use self::world::World;

/// Longer than anything here takes; only a fault makes a test wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds. Polls, because what it looks at is in another process.
pub(crate) async fn eventually<F>(what: &str, condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    within(PATIENCE, what, condition).await;
}

/// The same, within a time that is part of the promise. How long it took.
pub(crate) async fn within<F>(time: Duration, what: &str, mut condition: impl FnMut() -> F) -> Duration
where
    F: Future<Output = bool>,
{
    let began = tokio::time::Instant::now();
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    let waited = tokio::time::timeout(time, async {
        while !condition().await {
            poll.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for: {what}");
    began.elapsed()
}
