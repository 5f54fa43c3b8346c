//! What the tests share: a world to act in, the log of it, and clients.

pub(crate) mod collector;
pub(crate) mod dashboard;
pub(crate) mod events;
#[path = "../client/home.rs"]
pub(crate) mod home;
pub(crate) mod kubectl;
pub(crate) mod log;
pub(crate) mod mounted;
pub(crate) mod program;
pub(crate) mod prometheus;
pub(crate) mod webdriver;
pub(crate) mod wire;
pub(crate) mod world;

use std::future::Future;
use std::time::Duration;

pub(crate) use self::world::World;

/// Longer than anything here takes on a slow machine; only a fault makes a test wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds. Polls, because what it looks at is outside this process's reach.
pub(crate) async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let mut poll = tokio::time::interval(Duration::from_millis(10));
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition().await {
            poll.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for: {what}");
}

/// So many random bytes: every value is among them, and no two runs are alike.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

/// As `sha256sum` prints it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
