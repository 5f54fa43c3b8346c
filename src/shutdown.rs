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
    upkeep: TaskTracker,
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

    /// Spawns a task that the process cannot do without: its panic ends the process with code 1. It ends by itself
    /// after the soft stop, and is waited for.
    pub fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.vital(name, task));
    }

    /// Spawns a task that the process cannot do without and that goes on until the hard stop: what clients need while
    /// they finish, but nothing that a drain would wait for.
    pub fn spawn_upkeep(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.upkeep.spawn(self.vital(name, task));
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

    /// Waits until nobody is served any more. Call it after [`Shutdown::begin`].
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until every task has ended. Call it after [`Shutdown::force`].
    pub async fn ended(&self) {
        self.drained().await;
        self.upkeep.close();
        self.upkeep.wait().await;
    }

    fn vital(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let crashed = self.crashed.clone();
        let hard = self.hard.clone();
        async move {
            let guarded = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(_)) = hard.run_until_cancelled(guarded).await {
                tracing::error!(task = name, "a vital task crashed");
                crashed.cancel();
            }
        }
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

    /// What goes on until the hard stop does not hold up a drain; the hard stop ends it.
    #[tokio::test]
    async fn upkeep_does_not_hold_up_a_drain() {
        let shutdown = Shutdown::default();
        shutdown.spawn_upkeep("for ever", std::future::pending());
        shutdown.begin();
        shutdown.drained().await;
        assert!(!shutdown.upkeep.is_empty());
        shutdown.force();
        shutdown.ended().await;
    }
}
