//! The connections that nobody uses, and those who wait for one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::link::Link;

/// A handshake costs more than an idle connection: generous, so that a burst leaves its connections for the next.
const MAX_IDLE: usize = 1_024;
/// So many rounds of the sweeper, and no longer, a connection may be idle.
const MAX_ROUNDS: u64 = 12;

/// The one that became idle last is used first, so that what a busy hour has left over grows old and is closed.
#[derive(Debug, Default)]
pub(super) struct Idle {
    inner: Mutex<Inner>,
}

#[expect(clippy::vec_box, reason = "a connection is large, and moves in and out with each request")]
#[derive(Debug, Default)]
struct Inner {
    /// Oldest first.
    links: Vec<Box<Link>>,
    /// Each gets one connection, the first the next that becomes idle. Who waits no more has dropped the other end.
    waiting: VecDeque<oneshot::Sender<Box<Link>>>,
    /// The trust that a connection must have been made with.
    generation: u64,
    round: u64,
}

impl Idle {
    /// One that can be used. Those that cannot are closed.
    pub(super) fn take(&self) -> Option<Box<Link>> {
        loop {
            // A statement of its own: to look at it, and to close it, takes system calls, without the lock.
            let link = self.inner().links.pop()?;
            if link.is_usable() {
                return Some(link);
            }
        }
    }

    /// The next that becomes idle and can be used, for those who ask in their order.
    pub(super) async fn freed(&self) -> Box<Link> {
        loop {
            let (sender, receiver) = oneshot::channel();
            self.inner().wait(sender);
            // One that became idle just before is nobody's, now that all wait.
            if let Some(link) = self.take() {
                return link;
            }
            match receiver.await {
                Ok(link) if link.is_usable() => return link,
                Ok(_) | Err(_) => {}
            }
        }
    }

    pub(super) fn put(&self, mut link: Box<Link>) {
        let mut inner = self.inner();
        if link.generation == inner.generation {
            while let Some(next) = inner.waiting.pop_front() {
                match next.send(link) {
                    Ok(()) => return,
                    Err(unwanted) => link = unwanted,
                }
            }
            if inner.links.len() < MAX_IDLE {
                link.idle_since = inner.round;
                inner.links.push(link);
                return;
            }
        }
        // To close it takes a system call: without the lock.
        drop(inner);
        drop(link);
    }

    /// Closes all, and those that were made before when they come.
    pub(super) fn begin(&self, generation: u64) {
        let mut inner = self.inner();
        inner.generation = generation;
        let old = std::mem::take(&mut inner.links);
        drop(inner);
        drop(old);
    }

    /// Closes those that are too old, or have been closed by the server.
    pub(super) fn sweep(&self) {
        let mut inner = self.inner();
        inner.round += 1;
        let (round, generation) = (inner.round, inner.generation);
        // Those of the last round are in use, more or less. Without the others for a moment, and without the lock.
        let resting = inner.links.partition_point(|link| link.idle_since + 1 < round);
        let mut resting: Vec<_> = inner.links.drain(..resting).collect();
        drop(inner);
        resting.retain(|link| link.idle_since + MAX_ROUNDS >= round && link.is_usable());
        let mut inner = self.inner();
        if inner.generation == generation {
            inner.links.splice(..0, resting);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.inner().links.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The last in the queue, from which those in front who have gone are taken: it stays as short as their crowd was.
    fn wait(&mut self, sender: oneshot::Sender<Box<Link>>) {
        while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiting.pop_front();
        }
        self.waiting.push_back(sender);
    }
}
