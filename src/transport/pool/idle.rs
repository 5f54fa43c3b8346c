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

    /// One that can be used, now or as soon as it becomes idle; those who wait are served in their order.
    pub(super) async fn freed(&self) -> Box<Link> {
        loop {
            // A statement of its own: nobody waits with the lock.
            let found = self.inner().take_or_wait();
            let link = match found {
                Ok(link) => link,
                Err(receiver) => match (&mut Place { idle: self, receiver }.receiver).await {
                    Ok(link) => link,
                    Err(_) => continue,
                },
            };
            if link.is_usable() {
                return link;
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

/// Of one who waits. Who leaves it with a connection that has just come hands that on.
struct Place<'a> {
    idle: &'a Idle,
    receiver: oneshot::Receiver<Box<Link>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(link) = self.receiver.try_recv() {
            self.idle.put(link);
        }
    }
}

impl Inner {
    /// One, or the place where one will come: behind the others, without those in front who have gone.
    fn take_or_wait(&mut self) -> Result<Box<Link>, oneshot::Receiver<Box<Link>>> {
        if let Some(link) = self.links.pop() {
            return Ok(link);
        }
        while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiting.pop_front();
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back(sender);
        Err(receiver)
    }
}
