//! How the process ends: a soft stop (finish what you do), a hard stop (leave now), and trackers of all tasks.
//!
//! Work for clients is waited for at a soft stop. What runs beside it (reloads, key refresh, the management listener)
//! goes on meanwhile and ends with the hard stop. Only what tells others how all of this ended outlives both.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::seldom::seldom;

/// The two stops and the tracker. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    crashed: CancellationToken,
    work: TaskTracker,
    beside: TaskTracker,
}

impl Shutdown {
    /// Asks everything to finish what it does and to take nothing new.
    pub(crate) fn begin(&self) {
        self.soft.cancel();
    }

    fn force(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Whether the soft stop has begun.
    #[must_use]
    pub(crate) fn has_begun(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Resolves when the soft stop begins.
    pub(crate) async fn begun(&self) {
        self.soft.cancelled().await;
    }

    /// Resolves when a task that must not end has crashed.
    pub(crate) async fn crashed(&self) {
        self.crashed.cancelled().await;
    }

    /// Spawns a task that the process cannot do without: its panic ends the process with code 1.
    pub(crate) fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let crashed = self.crashed.clone();
        let contained = contain(self.hard.clone(), name, task);
        self.beside.spawn(async move {
            if contained.await.is_err() {
                crashed.cancel();
            }
        });
    }

    /// Spawns work for one client: waited for at a soft stop, ended by the hard one; its panic is contained and logged.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(contain(self.hard.clone(), name, task));
    }

    /// Spawns what runs beside the clients' work: no soft stop waits for it; its panic is contained and logged.
    pub(crate) fn spawn_beside(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.beside.spawn(contain(self.hard.clone(), name, task));
    }

    /// Spawns what tells others how everything else has ended: no stop ends it, and none waits for it. Who spawns it does
    /// both, after [`Shutdown::finish`]. Its panic is contained and logged.
    pub(crate) fn spawn_last(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let contained = contain(CancellationToken::new(), name, task);
        tokio::spawn(async move {
            let _logged = contained.await;
        })
    }

    /// Waits until all work for clients has ended. Call it after [`Shutdown::begin`].
    pub(crate) async fn drained(&self) {
        self.work.close();
        self.work.wait().await;
    }

    /// Ends everything now, and waits until it has ended.
    pub(crate) async fn finish(&self) {
        self.force();
        self.drained().await;
        self.beside.close();
        self.beside.wait().await;
    }
}

/// Runs a task until it ends or `hard` is cancelled.
fn contain(
    hard: CancellationToken,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = Result<(), Crashed>> + Send + 'static {
    // Boxed, because a future that is handed on by value is stored again at each step: a connection's would be held
    // three times over for as long as it lives.
    let guarded = AssertUnwindSafe(Box::pin(task)).catch_unwind();
    let stopped = seldom(hard.cancelled_owned());
    async move {
        tokio::select! {
            biased;
            () = stopped => Ok(()),
            ended = guarded => ended.map_err(|_| {
                tracing::error!(task = name, "a task crashed");
                Crashed
            }),
        }
    }
}

/// A task panicked.
struct Crashed;

#[cfg(test)]
mod tests {
    use super::*;

    /// A vital task's panic is reported; a client's is contained.
    #[tokio::test]
    async fn only_a_vital_crash_is_reported() {
        let shutdown = Shutdown::default();
        shutdown.spawn("client", async { panic!("contained") });
        shutdown.begin();
        shutdown.drained().await;
        assert!(!shutdown.crashed.is_cancelled());

        let shutdown = Shutdown::default();
        shutdown.spawn_vital("vital", async { panic!("reported") });
        shutdown.crashed().await;
    }
}
