//! How many connections may be in use at once, and who gets the next one that is free: those who wait take turns by
//! user, so that one who asks for a thousand does not keep out one who asks for one.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// The right to hold one connection; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Inner>,
}

/// All seats of one server.
#[derive(Debug)]
pub(super) struct Seats {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    free: AtomicUsize,
    /// How many wait. Raised before a waiter looks for a free seat for the last time, and read after a seat has become
    /// free: one of the two sees the other.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    hasher: RandomState,
}

/// Who waits. A party is a user's hash: if two ever share one, they share their turns.
#[derive(Debug, Default)]
struct Queue {
    parties: HashMap<u64, VecDeque<Waiter>>,
    /// Each party that waits stands here once.
    turns: VecDeque<u64>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    sender: oneshot::Sender<Seat>,
}

/// Takes its waiter out of the queue, when nobody waits for the seat any more.
struct Place {
    seats: Arc<Inner>,
    party: u64,
    id: u64,
}

impl Seats {
    pub(super) fn new(count: usize) -> Self {
        let inner = Inner {
            free: AtomicUsize::new(count),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
            hasher: RandomState::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A seat, at the latest after `patience`; `None` when there was none. `party` takes turns with the others.
    pub(super) async fn take(&self, party: impl Hash, patience: Duration) -> Option<Seat> {
        if self.inner.waiting.load(Ordering::SeqCst) == 0
            && let Some(seat) = self.inner.take_free()
        {
            return Some(seat);
        }
        let (receiver, _place) = self.inner.queue_up(self.inner.hasher.hash_one(party));
        tokio::time::timeout(patience, receiver).await.ok()?.ok()
    }
}

impl Inner {
    fn take_free(self: &Arc<Self>) -> Option<Seat> {
        let one_less = |free: usize| free.checked_sub(1);
        let taken = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        taken.is_ok().then(|| Seat { seats: self.clone() })
    }

    fn queue_up(self: &Arc<Self>, party: u64) -> (oneshot::Receiver<Seat>, Place) {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut queue = self.queue();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            queue.push(party, sender)
        };
        self.serve();
        (receiver, Place { seats: self.clone(), party, id })
    }

    /// Gives free seats to those who wait.
    fn serve(self: &Arc<Self>) {
        let spare = self.hand_out(&mut self.queue());
        // Only now: a seat that is given back looks at the queue.
        drop(spare);
    }

    /// Hands out seats until none is free or nobody waits. One that nobody wants any more is returned.
    fn hand_out(self: &Arc<Self>, queue: &mut Queue) -> Option<Seat> {
        while !queue.turns.is_empty() {
            let mut seat = self.take_free()?;
            loop {
                let Some(waiter) = queue.pop() else { return Some(seat) };
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                // Who has given up a moment ago takes no seat: the next one gets it.
                match waiter.sender.send(seat) {
                    Ok(()) => break,
                    Err(unwanted) => seat = unwanted,
                }
            }
        }
        None
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, party: u64, sender: oneshot::Sender<Seat>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let waiters = self.parties.entry(party).or_default();
        if waiters.is_empty() {
            self.turns.push_back(party);
        }
        waiters.push_back(Waiter { id, sender });
        id
    }

    /// The first waiter of the party whose turn it is.
    fn pop(&mut self) -> Option<Waiter> {
        let party = self.turns.pop_front()?;
        let waiters = self.parties.get_mut(&party)?;
        let waiter = waiters.pop_front();
        if waiters.is_empty() {
            self.parties.remove(&party);
        } else {
            self.turns.push_back(party);
        }
        waiter
    }

    /// `false` when it has been popped already.
    fn remove(&mut self, party: u64, id: u64) -> bool {
        let Some(waiters) = self.parties.get_mut(&party) else { return false };
        let before = waiters.len();
        waiters.retain(|waiter| waiter.id != id);
        let is_removed = waiters.len() < before;
        if waiters.is_empty() {
            self.parties.remove(&party);
            self.turns.retain(|turn| *turn != party);
        }
        is_removed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.seats.queue().remove(self.party, self.id) {
            self.seats.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.free.fetch_add(1, Ordering::SeqCst);
        if self.seats.waiting.load(Ordering::SeqCst) > 0 {
            self.seats.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    /// One user waits for a hundred seats; another's one request gets the second that becomes free.
    #[tokio::test(start_paused = true)]
    async fn users_take_turns() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take("a", PATIENCE).await, seats.take("a", PATIENCE).await);
        let flood = join_all((0..100).map(|_| seats.take("a", PATIENCE)));
        let mut flood = std::pin::pin!(flood);
        assert!(flood.as_mut().now_or_never().is_none());
        let mut other = std::pin::pin!(seats.take("b", PATIENCE));
        assert!(other.as_mut().now_or_never().is_none());
        drop(first);
        assert!(other.as_mut().now_or_never().is_none(), "it is a's turn");
        drop(second);
        let others = other.as_mut().now_or_never().flatten();
        assert!(others.is_some(), "now it is b's");
        // Whose wait has ended leaves nothing behind.
        let given = flood.await;
        assert_eq!(given.iter().filter(|seat| seat.is_some()).count(), 1);
        assert_eq!(seats.inner.waiting.load(Ordering::SeqCst), 0);
        assert!(seats.inner.queue().turns.is_empty() && seats.inner.queue().parties.is_empty());
        drop(given);
        assert_eq!(seats.inner.free.load(Ordering::SeqCst), 1, "b holds the other");
        drop(others);
    }

    /// A seat that was given to someone who had just left is not lost.
    #[tokio::test(start_paused = true)]
    async fn no_seat_is_lost_to_one_who_has_left() {
        let seats = Seats::new(1);
        let held = seats.take("a", PATIENCE).await;
        {
            let mut waits = std::pin::pin!(seats.take("b", PATIENCE));
            assert!(waits.as_mut().now_or_never().is_none());
            drop(held);
            // It has been given the seat, and goes without having looked.
        }
        assert!(seats.take("c", PATIENCE).await.is_some());
    }

    /// From many threads, each seat is held by one at a time, and all come back.
    #[tokio::test(flavor = "multi_thread")]
    async fn seats_are_neither_doubled_nor_lost() {
        let seats = Arc::new(Seats::new(3));
        let held = Arc::new(AtomicUsize::new(0));
        let tasks = (0..64_u64).map(|party| {
            let (seats, held) = (seats.clone(), held.clone());
            tokio::spawn(async move {
                for _ in 0..200 {
                    let seat = seats.take(party % 5, Duration::from_secs(60)).await;
                    assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    held.fetch_sub(1, Ordering::SeqCst);
                    assert!(seat.is_some());
                }
            })
        });
        for task in join_all(tasks).await {
            task.unwrap();
        }
        assert_eq!(seats.inner.free.load(Ordering::SeqCst), 3);
    }
}
