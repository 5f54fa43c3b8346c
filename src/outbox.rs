//! A bounded buffer of lines between many producers and one writer thread: the log's and the audit log's.
//!
//! A producer copies its line under a short lock and goes on; it never waits for the writer and does no I/O. The writer
//! takes everything that has gathered at once, so that a busy process writes hundreds of lines with one system call, and
//! it is woken only where it has nothing to do: while it gathers or writes, a new line costs no system call.
//!
//! What does not fit is dropped and counted. A line is accepted whole or not at all.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};

/// While the outbox closes, a writer that cannot write tries again this often.
const CLOSING_NAP: Duration = Duration::from_millis(100);
/// What is reserved for a buffer at once, where its bound is larger.
const RESERVED_BYTES: usize = 16 * 1024 * 1024;
/// Producers tell how much is queued with every so many lines, because all of them write to that one place.
const TOLD_EVERY: u64 = 16;
/// A buffer that held more than this is large. It is given back to the system when no large one was needed for
/// [`LARGE_FOR`]: given back after each write, the next one would cost a page fault for every 4 KiB, which makes the writer
/// slower, and so the next buffer larger still.
const LARGE_BYTES: usize = 512 * 1024;
const LARGE_FOR: Duration = Duration::from_secs(1);

/// The producers' end. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(Arc<Shared>);

/// The writer's end. When it is dropped, nothing is accepted any more.
#[derive(Debug)]
pub(crate) struct Inbox {
    shared: Arc<Shared>,
    rules: Gathering,
    large_for: Duration,
}

/// How long the writer lets lines gather before it takes them, and how many are enough to take them at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathering {
    /// From the first line on.
    pub(crate) time: Duration,
    /// So many lines are not waited with.
    pub(crate) lines: u64,
}

/// How full the buffer may become with a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// Half of its bound: for what costs its sender nothing, so that room is left for the rest.
    Half,
    /// Its bound.
    Whole,
    /// There is no bound: for what must not be lost and is bounded otherwise.
    Beyond,
}

/// What an outbox reports.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    /// Lines written.
    pub(crate) written: IntCounter,
    /// Lines that were not accepted, or that were accepted and lost.
    pub(crate) dropped: IntCounter,
    /// Bytes accepted and not yet written: exact when the writer has taken, written or dropped lines, otherwise up to 15 lines
    /// behind.
    pub(crate) queued: IntGauge,
}

/// Lines that the writer has taken.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Whole lines, each ending in a newline.
    pub(crate) bytes: Vec<u8>,
    /// How many.
    pub(crate) lines: u64,
    /// How many lines were dropped since the last batch was taken.
    pub(crate) dropped: u64,
    /// When a large buffer was last written, where one may still be there.
    large_at: Option<Instant>,
    /// So many buffers are to be given back.
    surplus: u8,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes who waits for the outbox to be empty.
    progress: Condvar,
    bound_bytes: usize,
    counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    waiting_lines: u64,
    /// Taken by the writer, and not yet written.
    taken_bytes: usize,
    taken_lines: u64,
    dropped: u64,
    /// The writer is to be woken when there are so many lines; 0: not at all.
    wake_at: u64,
    /// Until when the writer may try to write what is left.
    closing: Option<Instant>,
    writer_left: bool,
}

/// Makes both ends. `bound_bytes` is for all lines that are not yet written, those that the writer holds included.
#[must_use]
pub(crate) fn outbox(bound_bytes: usize, rules: Gathering, counters: Counters) -> (Outbox, Inbox) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        work: Condvar::new(),
        progress: Condvar::new(),
        bound_bytes,
        counters,
    });
    (Outbox(shared.clone()), Inbox { shared, rules, large_for: LARGE_FOR })
}

impl Outbox {
    /// Accepts a line, which ends in a newline, if there is room for it.
    pub(crate) fn push(&self, line: &[u8]) -> bool {
        self.push_within(&[line], Room::Whole)
    }

    /// Whether a line of so many bytes would be accepted now.
    #[must_use]
    pub(crate) fn has_room(&self, bytes: usize, room: Room) -> bool {
        self.0.has_room(&self.0.lock(), bytes, room)
    }

    /// Accepts a line, which comes in pieces and ends in a newline, if there is room for it in what it may use.
    pub(crate) fn push_within(&self, line: &[&[u8]], room: Room) -> bool {
        debug_assert!(line.last().is_some_and(|last| last.ends_with(b"\n")), "a line ends in a newline");
        let bytes = line.iter().map(|piece| piece.len()).sum();
        let mut state = self.0.lock();
        if !self.0.has_room(&state, bytes, room) {
            state.dropped += 1;
            self.0.tell_queued(&state);
            drop(state);
            self.0.counters.dropped.inc();
            return false;
        }
        if state.waiting.capacity() == 0 {
            // Reserved at once, so that no push has to move what is there already. The system gives the memory only as
            // it is used.
            state.waiting.reserve(self.0.bound_bytes.min(RESERVED_BYTES));
        }
        line.iter().for_each(|piece| state.waiting.extend_from_slice(piece));
        state.waiting_lines += 1;
        let wake = state.waiting_lines == state.wake_at;
        if state.waiting_lines.is_multiple_of(TOLD_EVERY) {
            self.0.tell_queued(&state);
        }
        drop(state);
        if wake {
            self.0.work.notify_one();
        }
        true
    }

    /// Accepts nothing more, and waits until all that was accepted is written, at most for `patience`. Says how many
    /// lines are lost. Blocks the thread that calls it.
    pub(crate) fn close(&self, patience: Duration) -> u64 {
        let mut state = self.0.lock();
        let deadline = Instant::now() + patience;
        state.closing = Some(deadline);
        self.0.work.notify_all();
        while state.held() > 0 && !state.writer_left {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.progress.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let lost = state.waiting_lines + state.taken_lines;
        // A second call has nothing more to count.
        (state.waiting_lines, state.taken_lines) = (0, 0);
        state.waiting.clear();
        state.taken_bytes = 0;
        drop(state);
        self.0.counters.dropped.inc_by(lost);
        lost
    }
}

impl Inbox {
    /// Waits for lines and takes all that have gathered. `false`: the outbox is closed and empty, or its time is up.
    pub(crate) fn next(&self, batch: &mut Batch) -> bool {
        // Two buffers take turns, so that no line costs an allocation.
        let mut empty = batch.emptied(self.large_for);
        let state = self.shared.lock();
        // First without asking to be woken: on a busy process, the next lines come while this one sleeps.
        let mut state = self.shared.gather(state, self.rules);
        while state.waiting_lines == 0 && state.dropped == 0 && state.closing.is_none() {
            state.wake_at = 1;
            if batch.large_at.is_none() && batch.surplus == 0 {
                state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                let waited = self.shared.work.wait_timeout(state, self.large_for);
                let (still, time) = waited.unwrap_or_else(PoisonError::into_inner);
                state = still;
                if time.timed_out() && state.waiting_lines == 0 {
                    (empty, state.waiting) = (Vec::new(), Vec::new());
                    (batch.large_at, batch.surplus) = (None, 0);
                }
            }
            state = self.shared.gather(state, self.rules);
        }
        state.wake_at = 0;
        if state.waiting_lines == 0 && state.closing.is_some() || state.time_is_up() {
            return false;
        }
        batch.bytes = std::mem::replace(&mut state.waiting, empty);
        batch.lines = std::mem::take(&mut state.waiting_lines);
        batch.dropped = std::mem::take(&mut state.dropped);
        state.taken_bytes = batch.bytes.len();
        state.taken_lines = batch.lines;
        self.shared.tell_queued(&state);
        true
    }

    /// So much of what was taken is written.
    pub(crate) fn written(&self, bytes: usize, lines: u64) {
        let mut state = self.shared.lock();
        let counted = self.settle(&mut state, bytes, lines);
        self.shared.counters.written.inc_by(counted);
    }

    /// So much of what was taken is lost.
    pub(crate) fn lost(&self, bytes: usize, lines: u64) {
        let mut state = self.shared.lock();
        let counted = self.settle(&mut state, bytes, lines);
        state.dropped += counted;
        self.shared.counters.dropped.inc_by(counted);
    }

    /// How many of these lines nobody has counted yet: a close whose time was up has counted all of them as lost. Who
    /// waits for the outbox to be empty goes on when the lock is released, and finds them counted.
    fn settle(&self, state: &mut State, bytes: usize, lines: u64) -> u64 {
        let counted = lines.min(state.taken_lines);
        state.taken_lines -= counted;
        state.taken_bytes = state.taken_bytes.saturating_sub(bytes);
        self.shared.tell_queued(state);
        if state.closing.is_some() {
            self.shared.progress.notify_all();
        }
        counted
    }

    /// Waits before the next attempt to write what was taken; a close cuts it short. `false`: do not try any more.
    pub(crate) fn nap(&self, time: Duration) -> bool {
        let state = self.shared.lock();
        let closing = state.closing.is_some();
        let time = if closing { time.min(CLOSING_NAP) } else { time };
        let go_on = |state: &mut State| state.closing.is_some() == closing && !state.time_is_up();
        let slept = self.shared.work.wait_timeout_while(state, time, go_on);
        !slept.unwrap_or_else(PoisonError::into_inner).0.time_is_up()
    }
}

impl Batch {
    /// Its buffer, to be filled again, or a new one in its place.
    fn emptied(&mut self, large_for: Duration) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.len() > LARGE_BYTES {
            (self.large_at, self.surplus) = (Some(Instant::now()), 0);
        } else if self.large_at.is_some_and(|at| at.elapsed() >= large_for) {
            // This one, and the one that is being filled.
            (self.large_at, self.surplus) = (None, 2);
        }
        if self.surplus > 0 {
            self.surplus -= 1;
            bytes = Vec::new();
        }
        bytes.clear();
        bytes
    }
}

impl Shared {
    fn tell_queued(&self, state: &State) {
        self.counters.queued.set(state.held().try_into().unwrap_or(i64::MAX));
    }

    fn has_room(&self, state: &State, bytes: usize, room: Room) -> bool {
        let bound = match room {
            Room::Half => self.bound_bytes / 2,
            Room::Whole => self.bound_bytes,
            Room::Beyond => usize::MAX,
        };
        state.is_open() && state.held() + bytes <= bound
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets lines gather until their time is over, there are enough of them, or the outbox closes.
    fn gather<'a>(&self, mut state: MutexGuard<'a, State>, rules: Gathering) -> MutexGuard<'a, State> {
        let end = Instant::now() + rules.time;
        state.wake_at = rules.lines;
        while state.waiting_lines < rules.lines && state.closing.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}

impl State {
    fn held(&self) -> usize {
        self.waiting.len() + self.taken_bytes
    }

    fn is_open(&self) -> bool {
        self.closing.is_none() && !self.writer_left
    }

    fn time_is_up(&self) -> bool {
        self.closing.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.lock().writer_left = true;
        self.shared.progress.notify_all();
    }
}

#[cfg(test)]
mod tests;
