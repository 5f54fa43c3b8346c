//! How the process ends: a soft stop (finish what you do), a hard stop (leave now), and one tracker of all tasks.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two stops and the tracker. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    crashed: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Asks everything to finish what it does and to take nothing new.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Ends everything now.
    pub fn force(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Whether the soft stop has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Resolves when the soft stop begins.
    pub async fn begun(&self) {
        self.soft.cancelled().await;
    }

    /// Resolves at the hard stop.
    pub async fn forced(&self) {
        self.hard.cancelled().await;
    }

    /// Resolves when a task that must not end has crashed.
    pub async fn crashed(&self) {
        self.crashed.cancelled().await;
    }

    /// Spawns a task that the process cannot do without: its panic ends the process with code 1.
    pub fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let crashed = self.crashed.clone();
        let hard = self.hard.clone();
        self.tasks.spawn(async move {
            let guarded = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(_)) = hard.run_until_cancelled(guarded).await {
                tracing::error!(task = name, "a vital task crashed");
                crashed.cancel();
            }
        });
    }

    /// Spawns work for one client: ended by the hard stop; its panic is contained and logged.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        self.tasks.spawn(async move {
            let guarded = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(_)) = hard.run_until_cancelled(guarded).await {
                tracing::error!(task = name, "a task crashed; what it served was cut off");
            }
        });
    }

    /// Waits until every task has ended. Call it after [`Shutdown::begin`].
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vital task's panic is reported; a client's is contained.
    #[tokio::test]
    async fn only_a_vital_crash_is_reported() {
        let shutdown = Shutdown::default();
        shutdown.spawn("client", async { panic!("contained") });
        shutdown.begin();
        shutdown.ended().await;
        assert!(!shutdown.crashed.is_cancelled());

        let shutdown = Shutdown::default();
        shutdown.spawn_vital("vital", async { panic!("reported") });
        shutdown.crashed().await;
    }
}
