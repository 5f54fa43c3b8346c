//! Open streams, registered with the credential that opened them, so that its end ends them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use jiff::Timestamp;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::secret::random_share;
use crate::session::{CredentialId, Ended, Fate, Opener, UserKey};
use crate::shutdown::Shutdown;

/// What a stream is: its metric's label, and how it leaves when the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// A watch: ended between two events during a graceful stop, for its client then lists anew elsewhere.
    Watch,
    /// Followed logs and what a pod streams: left alone until the stop's deadline.
    Follow,
    /// An upgraded connection: left alone until the stop's deadline.
    Tunnel,
    /// Any other answer of a mounted dashboard, which may be an event stream: left alone until the stop's deadline.
    Dashboard,
}

impl StreamKind {
    fn label(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Follow => "follow",
            Self::Tunnel => "tunnel",
            Self::Dashboard => "dashboard",
        }
    }
}

/// Of the drain window, the part over which watches are spread when they end: their clients come back elsewhere, and
/// not all at once.
const SPREAD: f64 = 0.8;

/// How long an ended credential is remembered: longer than a request can be on its way from the lookup of its
/// credential to the opening of its stream.
const ENDED_IS_KNOWN_FOR: Duration = Duration::from_secs(600);

/// All open streams of this process. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Those with open streams. An ended one is taken out, so that a token armed again begins anew.
    credentials: DashMap<CredentialId, Arc<Entry>>,
    /// What ended a moment ago. A request may have found its credential alive just before that, and opens its stream
    /// just after.
    ended: DashMap<CredentialId, (Instant, Fate)>,
    per_user: DashMap<UserKey, usize>,
    max_per_user: usize,
    clock: Clock,
    shutdown: Shutdown,
    drain: Duration,
    metrics: Arc<Metrics>,
    /// A rule that the simulation breaks, to see that it notices.
    #[cfg(test)]
    recheck_is_skipped: std::sync::atomic::AtomicBool,
}

/// The streams of one credential.
#[derive(Debug)]
struct Entry {
    opener: Opener,
    life: watch::Sender<Life>,
    streams: AtomicUsize,
}

/// How long the streams of a credential may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Until credential or session ends by itself. It moves when the credential moves to another session.
    Until(Timestamp),
    Over(Fate),
}

/// Why a stream must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Its credential has ended.
    Credential(Fate),
    /// The process stops, and it is this watch's turn to leave.
    Stopping,
}

/// Who or what ended a stream: its metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// The client left, or closed its side first.
    Client,
    /// The API server ended its answer, closed its side first, or gave none.
    Upstream,
    /// Its credential has ended.
    Credential,
    /// The process stops.
    Stopping,
}

/// One open stream. Dropping it ends its registration.
#[derive(Debug)]
pub(crate) struct Stream {
    inner: Arc<Inner>,
    /// Nothing once it was closed.
    place: Option<Place>,
    kind: StreamKind,
    entry: Arc<Entry>,
    gauge: IntGauge,
    ended_by: OnceLock<EndedBy>,
}

/// A place among the streams that one user may have; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    inner: Arc<Inner>,
    user: UserKey,
}

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// The user has as many streams open as one may have.
    TooMany,
    /// The credential ended after its lookup.
    Ended(Fate),
}

impl Streams {
    /// No streams yet. `drain` is the window over which watches are spread when a soft stop ends them.
    #[must_use]
    pub(crate) fn new(
        max_per_user: usize,
        clock: Clock,
        shutdown: Shutdown,
        drain: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (credentials, ended, per_user) = (DashMap::new(), DashMap::new(), DashMap::new());
        let inner = Inner {
            credentials,
            ended,
            per_user,
            max_per_user,
            clock,
            shutdown,
            drain,
            metrics,
            #[cfg(test)]
            recheck_is_skipped: false.into(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Registers a stream. `deadline` is when its credential or session ends by itself; `found_at`, when the credential
    /// was looked up.
    ///
    /// # Errors
    /// When the user has too many, or the credential has ended since `found_at`.
    pub(crate) fn open(
        &self,
        kind: StreamKind,
        opener: &Opener,
        deadline: Timestamp,
        found_at: Instant,
    ) -> Result<Stream, NotOpened> {
        let credential = &opener.credential;
        let place = Some(self.inner.place_of(&credential.user).ok_or(NotOpened::TooMany)?);
        let entry = {
            let entry = self.inner.credentials.entry(credential.id.clone());
            let entry = entry.or_insert_with(|| Arc::new(Entry::new(opener.clone(), deadline)));
            entry.streams.fetch_add(1, Ordering::Relaxed);
            entry.set_deadline(deadline);
            entry.clone()
        };
        let gauge = self.inner.metrics.streams.with_label_values(&[kind.label()]);
        gauge.inc();
        let (inner, ended_by) = (self.inner.clone(), OnceLock::new());
        let stream = Stream { inner, place, kind, entry, gauge, ended_by };
        // Only now: an end that comes from here on finds the stream registered.
        match self.inner.ended_since(&credential.id, found_at) {
            Some(fate) => {
                stream.ended_by(EndedBy::Credential);
                Err(NotOpened::Ended(fate))
            }
            None => Ok(stream),
        }
    }

    /// The credentials that have streams open, each with what opens its session.
    #[must_use]
    pub(crate) fn openers(&self) -> Vec<Opener> {
        self.inner.credentials.iter().map(|entry| entry.opener.clone()).collect()
    }

    /// The credential's streams may now live until `deadline`.
    pub(crate) fn set_deadline(&self, credential: &CredentialId, deadline: Timestamp) {
        if let Some(entry) = self.inner.credentials.get(credential) {
            entry.set_deadline(deadline);
        }
    }

    /// Ends the streams of what has ended.
    pub(crate) fn end(&self, ended: &Ended) {
        for (credential, fate) in &ended.credentials {
            self.end_of(credential, *fate);
        }
    }

    /// Ends the streams of one credential.
    pub(crate) fn end_of(&self, credential: &CredentialId, fate: Fate) {
        // Remembered first: a stream that is registered after the removal sees it here.
        self.inner.ended.insert(credential.clone(), (Instant::now(), fate));
        if let Some((_, entry)) = self.inner.credentials.remove(credential) {
            entry.life.send_replace(Life::Over(fate));
        }
    }

    #[cfg(test)]
    pub(crate) fn skip_recheck(&self) {
        self.inner.recheck_is_skipped.store(true, Ordering::Relaxed);
    }

    /// Forgets ends that no request can have missed.
    pub(crate) fn sweep(&self) {
        self.inner.ended.retain(|_, (at, _)| at.elapsed() < ENDED_IS_KNOWN_FOR);
    }
}

impl Inner {
    /// One more stream of this user; `None` when there are as many as one may have.
    fn place_of(self: &Arc<Self>, user: &UserKey) -> Option<Place> {
        let mut count = self.per_user.entry(user.clone()).or_insert(0);
        (*count < self.max_per_user).then(|| {
            *count += 1;
            Place { inner: self.clone(), user: user.clone() }
        })
    }

    /// What became of the credential, where it ended then or later.
    fn ended_since(&self, credential: &CredentialId, found_at: Instant) -> Option<Fate> {
        #[cfg(test)]
        if self.recheck_is_skipped.load(Ordering::Relaxed) {
            return None;
        }
        let (at, fate) = self.ended.get(credential).map(|ended| *ended)?;
        (at >= found_at).then_some(fate)
    }
}

impl Entry {
    fn new(opener: Opener, deadline: Timestamp) -> Self {
        Self { opener, life: watch::Sender::new(Life::Until(deadline)), streams: AtomicUsize::new(0) }
    }

    fn set_deadline(&self, deadline: Timestamp) {
        self.life.send_if_modified(|life| match life {
            Life::Until(held) => std::mem::replace(held, deadline) != deadline,
            Life::Over(_) => false,
        });
    }

    /// Resolves when the credential has ended, or its deadline, wherever it has moved by then, has come.
    async fn over(&self, clock: &Clock) -> Fate {
        let mut changes = self.life.subscribe();
        loop {
            let life = *changes.borrow_and_update();
            let deadline = match life {
                Life::Over(fate) => return fate,
                Life::Until(deadline) => deadline,
            };
            tokio::select! {
                () = clock.sleep_until(deadline) => {
                    let is_own = deadline >= self.opener.credential.expires_at;
                    return if is_own { Fate::Expired } else { Fate::Dormant };
                }
                // The sender lives as long as `self`.
                _changed = changes.changed() => {}
            }
        }
    }
}

impl Stream {
    /// Resolves when the stream must end.
    pub(crate) async fn over(&self) -> Over {
        tokio::select! {
            fate = self.entry.over(&self.inner.clock) => {
                self.ended_by(EndedBy::Credential);
                Over::Credential(fate)
            }
            () = self.its_turn_to_leave(), if self.kind == StreamKind::Watch => {
                self.ended_by(EndedBy::Stopping);
                Over::Stopping
            }
        }
    }

    /// Ends its registration. Its place among its user's streams is still taken, until what its client has not taken yet is
    /// gone, too.
    pub(crate) fn close(mut self) -> Option<Place> {
        self.place.take()
    }

    /// Notes what ends it, for the metric. What is noted first counts; without a note it was the client.
    pub(crate) fn ended_by(&self, by: EndedBy) {
        let _noted_already = self.ended_by.set(by);
    }

    /// Resolves at a random moment within the window of a soft stop.
    async fn its_turn_to_leave(&self) {
        self.inner.shutdown.begun().await;
        let delay = self.inner.drain.mul_f64(SPREAD * random_share());
        self.inner.clock.pause(delay).await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.gauge.dec();
        let reason = match self.ended_by.get() {
            None | Some(EndedBy::Client) => "client",
            Some(EndedBy::Upstream) => "upstream",
            Some(EndedBy::Credential) => "credential",
            Some(EndedBy::Stopping) => "stopping",
        };
        self.inner.metrics.streams_ended.with_label_values(&[self.kind.label(), reason]).inc();
        // Counted down under the map's lock: otherwise a stream that opens right now could get the entry that is being
        // removed, and an end of the credential would not find it.
        self.inner.credentials.remove_if(&self.entry.opener.credential.id, |_, entry| {
            Arc::ptr_eq(entry, &self.entry) && self.entry.streams.fetch_sub(1, Ordering::Relaxed) == 1
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut count) = self.inner.per_user.get_mut(&self.user) {
            *count -= 1;
        }
        self.inner.per_user.remove_if(&self.user, |_, count| *count == 0);
    }
}

#[cfg(test)]
mod tests;
