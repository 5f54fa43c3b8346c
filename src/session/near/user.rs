//! What this replica knows of one user, and how far it can be believed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::secret::Digest;
use crate::session::backend::Version;
use crate::session::records::Records;
use crate::session::{CredentialId, LastUse, UserTag};

/// A user of whom something is known.
#[derive(Debug)]
pub(in crate::session) struct User {
    pub(in crate::session) tag: UserTag,
    /// Reasons to think that what is known is wrong: a change at another replica, or one of our own that failed half-way.
    pub(super) doubts: Count,
    /// Of these, changes of which the store told: what is known *is* wrong.
    pub(super) changes: Count,
    versions: Mutex<Versions>,
    pub(super) generation: AtomicU64,
    /// When it was looked up, and when it was used, in milliseconds and seconds since the start.
    pub(super) looked_up: AtomicU64,
    pub(super) used: AtomicU64,
    /// Held during a look at the store and during a change: one at a time for a user.
    pub(in crate::session) state: tokio::sync::Mutex<State>,
}

/// Counts reasons to look again, and up to which of them a look has seen. A look that fails or is given up half-way sees
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Count {
    reasons: AtomicU64,
    seen: AtomicU64,
}

/// What a look that begins now will have seen.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Look {
    pub(super) generation: u64,
    pub(super) doubts: u64,
    pub(super) changes: u64,
}

/// Tells what this replica did itself from what others did.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// The last ones that were known or put here, the newest at the end: of several changes in a row, the store's messages
    /// come when the next one is made already.
    known: Vec<Version>,
    /// What the store said that the user changed to since the last look.
    pub(super) heard: Vec<Version>,
    /// It said more than is kept here.
    pub(super) too_many: bool,
}

/// So many versions are remembered for messages that come late.
const REMEMBERED: usize = 4;

impl Versions {
    /// Whether hearing of it is no news.
    pub(super) fn knows(&self, version: &Version) -> bool {
        self.known.contains(version)
    }

    /// It is the newest one.
    pub(super) fn know(&mut self, version: &Version) {
        self.known.retain(|known| known != version);
        if self.known.len() == REMEMBERED {
            self.known.remove(0);
        }
        self.known.push(version.clone());
    }
}

/// What is known of a user.
#[derive(Debug, Default)]
pub(in crate::session) struct State {
    pub(in crate::session) loaded: bool,
    pub(in crate::session) version: Version,
    pub(in crate::session) records: Arc<Records>,
    pub(in crate::session) uses: HashMap<CredentialId, LastUse>,
    /// Credentials that have an entry.
    pub(in crate::session) digests: HashSet<Digest>,
    /// When the last look that succeeded began.
    pub(in crate::session) looked_at: Option<Instant>,
    /// The last failed look, and how often the channel had come up by then: those who waited for it do not all try again.
    pub(in crate::session) failed_at: Option<(Instant, u64)>,
}

impl Count {
    pub(super) fn add(&self) {
        self.reasons.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn reasons(&self) -> u64 {
        self.reasons.load(Ordering::Acquire)
    }

    pub(super) fn seen_up_to(&self, reasons: u64) {
        self.seen.fetch_max(reasons, Ordering::AcqRel);
    }

    /// Whether there is a reason that no look has seen.
    pub(super) fn is_open(&self) -> bool {
        self.seen.load(Ordering::Acquire) != self.reasons()
    }
}

impl State {
    /// Whether a look that began then or later has been made.
    pub(in crate::session) fn has_looked_since(&self, asked_at: Instant) -> bool {
        self.looked_at.is_some_and(|began| began >= asked_at)
    }
}

impl User {
    pub(super) fn new(tag: UserTag) -> Self {
        Self {
            tag,
            // One from the beginning: nobody has looked yet.
            doubts: Count { reasons: AtomicU64::new(1), seen: AtomicU64::new(0) },
            changes: Count::default(),
            versions: Mutex::default(),
            generation: AtomicU64::new(0),
            looked_up: AtomicU64::new(0),
            used: AtomicU64::new(0),
            state: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Written at most once a second, so that a busy user's requests do not contend for it.
    pub(super) fn use_at(&self, second: u64) {
        if self.used.load(Ordering::Relaxed) != second {
            self.used.store(second, Ordering::Relaxed);
        }
    }
}
