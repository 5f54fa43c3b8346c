//! Whether the store's channel is up, how often it has come up, and when the store was last heard of.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::session::StoreState;

/// Times are milliseconds since the start.
#[derive(Debug)]
pub(super) struct Channel {
    start: Instant,
    /// 0 while the channel is down; else the present value of `count`.
    generation: AtomicU64,
    count: AtomicU64,
    last_sign: AtomicU64,
    has_been_up: AtomicBool,
    /// The last generations that ended, and when the store was last heard of in each.
    ended: Mutex<VecDeque<(u64, u64)>>,
}

/// Generations whose end is remembered: a channel that comes and goes each second is followed for a quarter of a minute.
const REMEMBERED: usize = 16;

impl Channel {
    /// Down, and never heard of.
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            generation: AtomicU64::new(0),
            count: AtomicU64::new(0),
            last_sign: AtomicU64::new(0),
            has_been_up: AtomicBool::new(false),
            ended: Mutex::default(),
        }
    }

    pub(super) fn comes_up(&self) {
        self.shows_life();
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.generation.store(count, Ordering::Release);
        self.has_been_up.store(true, Ordering::Release);
    }

    pub(super) fn goes_down(&self) {
        let generation = self.generation.swap(0, Ordering::AcqRel);
        if generation == 0 {
            return;
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() == REMEMBERED {
            ended.pop_front();
        }
        ended.push_back((generation, self.last_sign()));
    }

    /// Until when everything was heard of that happened in a generation; `None`: that is too long ago to be known.
    pub(super) fn certain_until(&self, generation: u64) -> Option<u64> {
        if generation != 0 && generation == self.generation() {
            return Some(self.last_sign());
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().find(|(of, _)| *of == generation).map(|(_, until)| *until)
    }

    pub(super) fn shows_life(&self) {
        self.last_sign.store(self.now(), Ordering::Release);
    }

    /// 0 while it is down.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How often it has come up.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn last_sign(&self) -> u64 {
        self.last_sign.load(Ordering::Acquire)
    }

    /// How long there was no sign of life.
    pub(super) fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last_sign()))
    }

    pub(super) fn state(&self) -> StoreState {
        match self.generation() {
            _ if !self.has_been_up.load(Ordering::Acquire) => StoreState::Starting,
            0 => StoreState::Away(self.silent_for()),
            _ => StoreState::Here,
        }
    }

    pub(super) fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    pub(super) fn second(&self) -> u64 {
        self.now() / 1_000
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
