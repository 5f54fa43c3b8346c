//! Open streams, registered with the credential that opened them, so that its end ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use jiff::Timestamp;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, after};
use crate::metrics::Metrics;
use crate::secret::random_share;
use crate::session::{Credential, CredentialId, UserKey};
use crate::shutdown::Shutdown;

/// What a stream is: its metric's label, and how it leaves when the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A watch: ended between two events during a graceful stop, for its client then lists anew elsewhere.
    Watch,
    /// Followed logs and what a pod streams: left alone until the stop's deadline.
    Follow,
    /// An upgraded connection: left alone until the stop's deadline.
    Tunnel,
}

/// Of the drain window, the part over which watches are spread when they end: their clients come back elsewhere, and
/// not all at once.
const SPREAD: f64 = 0.8;

/// All open streams of this process.
#[derive(Clone, Debug)]
pub struct Streams {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Those with open streams. An ended one is taken out, so that a token armed again begins anew.
    credentials: DashMap<CredentialId, Arc<Entry>>,
    per_user: DashMap<UserKey, usize>,
    max_per_user: usize,
    clock: Clock,
    shutdown: Shutdown,
    drain: Duration,
    metrics: Arc<Metrics>,
}

/// The streams of one credential.
#[derive(Debug)]
struct Entry {
    credential: Arc<Credential>,
    ended: CancellationToken,
    /// When credential or session ends by itself. It moves when the credential moves to another session.
    deadline: watch::Sender<Timestamp>,
    streams: AtomicUsize,
}

/// One open stream. Dropping it takes it off the books.
#[derive(Debug)]
pub struct Stream {
    inner: Arc<Inner>,
    kind: StreamKind,
    entry: Arc<Entry>,
    gauge: IntGauge,
}

/// The user has as many streams open as one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyStreams;

impl Streams {
    /// No streams yet. `drain` is the window over which watches are spread when a soft stop ends them.
    #[must_use]
    pub fn new(
        max_per_user: usize,
        clock: Clock,
        shutdown: Shutdown,
        drain: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (credentials, per_user) = (DashMap::new(), DashMap::new());
        let inner = Inner { credentials, per_user, max_per_user, clock, shutdown, drain, metrics };
        Self { inner: Arc::new(inner) }
    }

    /// Puts a stream on the books. `deadline` is when its credential or session ends by itself.
    ///
    /// The credential may have ended between its check and this call: check it again afterwards.
    ///
    /// # Errors
    /// When the user has too many.
    pub fn open(
        &self,
        kind: StreamKind,
        credential: &Arc<Credential>,
        deadline: Timestamp,
    ) -> Result<Stream, TooManyStreams> {
        {
            let mut count = self.inner.per_user.entry(credential.user.clone()).or_insert(0);
            if *count >= self.inner.max_per_user {
                return Err(TooManyStreams);
            }
            *count += 1;
        }
        let entry = {
            let entry = self.inner.credentials.entry(credential.id.clone());
            let entry = entry.or_insert_with(|| Arc::new(Entry::new(credential.clone(), deadline)));
            entry.streams.fetch_add(1, Ordering::Relaxed);
            entry.set_deadline(deadline);
            entry.clone()
        };
        let label = match kind {
            StreamKind::Watch => "watch",
            StreamKind::Follow => "follow",
            StreamKind::Tunnel => "tunnel",
        };
        let gauge = self.inner.metrics.streams.with_label_values(&[label]);
        gauge.inc();
        Ok(Stream { inner: self.inner.clone(), kind, entry, gauge })
    }

    /// The credentials that have streams open.
    #[must_use]
    pub fn credentials(&self) -> Vec<Arc<Credential>> {
        self.inner.credentials.iter().map(|entry| entry.credential.clone()).collect()
    }

    /// The credential's streams may now live until `deadline`.
    pub fn set_deadline(&self, credential: &CredentialId, deadline: Timestamp) {
        if let Some(entry) = self.inner.credentials.get(credential) {
            entry.set_deadline(deadline);
        }
    }

    /// Ends the streams of credentials that are no more.
    pub fn end(&self, credentials: &[CredentialId]) {
        for credential in credentials {
            if let Some((_, entry)) = self.inner.credentials.remove(credential) {
                entry.ended.cancel();
            }
        }
    }
}

impl Entry {
    fn new(credential: Arc<Credential>, deadline: Timestamp) -> Self {
        let (ended, streams) = (CancellationToken::new(), AtomicUsize::new(0));
        Self { credential, ended, deadline: watch::Sender::new(deadline), streams }
    }

    fn set_deadline(&self, deadline: Timestamp) {
        self.deadline.send_if_modified(|held| std::mem::replace(held, deadline) != deadline);
    }

    /// Resolves when the deadline, wherever it has moved by then, has come.
    async fn at_deadline(&self, clock: &Clock) {
        let mut moves = self.deadline.subscribe();
        loop {
            let deadline = *moves.borrow_and_update();
            tokio::select! {
                () = clock.sleep_until(deadline) => return,
                // The sender lives as long as `self`.
                _moved = moves.changed() => {}
            }
        }
    }
}

impl Stream {
    /// Resolves when the stream must end: its credential was ended, or has come to its end.
    pub async fn over(&self) {
        tokio::select! {
            () = self.entry.ended.cancelled() => {}
            () = self.entry.at_deadline(&self.inner.clock) => {}
            () = self.its_turn_to_leave(), if self.kind == StreamKind::Watch => {}
        }
    }

    /// Resolves at a moment of its own within the window of a soft stop.
    async fn its_turn_to_leave(&self) {
        self.inner.shutdown.begun().await;
        let delay = self.inner.drain.mul_f64(SPREAD * random_share());
        self.inner.clock.sleep_until(after(self.inner.clock.now(), delay)).await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.gauge.dec();
        // Counted down under the map's lock, so that the last one out and a new one coming in cannot miss each other.
        self.inner.credentials.remove_if(&self.entry.credential.id, |_, entry| {
            Arc::ptr_eq(entry, &self.entry) && self.entry.streams.fetch_sub(1, Ordering::Relaxed) == 1
        });
        let user = &self.entry.credential.user;
        if let Some(mut count) = self.inner.per_user.get_mut(user) {
            *count -= 1;
        }
        self.inner.per_user.remove_if(user, |_, count| *count == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::CredentialSecret;
    use crate::session::CredentialKind;

    fn credential(now: Timestamp) -> Arc<Credential> {
        let user = UserKey { tid: "t".into(), oid: "o".into() };
        let digest = CredentialSecret::new_token().digest();
        let hour = Duration::from_secs(3_600);
        Arc::new(Credential::new(digest, CredentialKind::Token, user, String::new(), now, hour, None))
    }

    /// A stream ends with its credential, and only with its own.
    #[tokio::test]
    async fn a_stream_ends_with_its_credential() {
        let clock = Clock::movable();
        let streams = Streams::new(2, clock.clone(), Shutdown::default(), Duration::ZERO, Arc::default());
        let deadline = after(clock.now(), Duration::from_secs(60));
        let (one, two) = (credential(clock.now()), credential(clock.now()));
        let first = streams.open(StreamKind::Watch, &one, deadline).unwrap();
        let second = streams.open(StreamKind::Tunnel, &two, deadline).unwrap();
        assert_eq!(streams.open(StreamKind::Watch, &one, deadline).unwrap_err(), TooManyStreams);
        streams.end(std::slice::from_ref(&one.id));
        first.over().await;
        assert!(tokio::time::timeout(Duration::ZERO, second.over()).await.is_err());
        drop(second);
        // A token that is armed again while its old stream still lingers begins anew.
        let second = streams.open(StreamKind::Watch, &one, deadline).unwrap();
        assert!(tokio::time::timeout(Duration::ZERO, second.over()).await.is_err());
        drop(first);
        clock.advance(Duration::from_secs(61));
        second.over().await;
    }

    /// A stream lives on when its credential's end moves, and ends at the new one.
    #[tokio::test]
    async fn a_deadline_moves_with_its_credential() {
        let clock = Clock::movable();
        let streams = Streams::new(2, clock.clone(), Shutdown::default(), Duration::ZERO, Arc::default());
        let credential = credential(clock.now());
        let at = |seconds| after(clock.now(), Duration::from_secs(seconds));
        let (soon, later) = (at(60), at(600));
        let stream = streams.open(StreamKind::Tunnel, &credential, soon).unwrap();
        streams.set_deadline(&credential.id, later);
        clock.advance(Duration::from_secs(61));
        assert!(tokio::time::timeout(Duration::ZERO, stream.over()).await.is_err());
        clock.advance(Duration::from_secs(540));
        stream.over().await;
    }

    /// At a soft stop a watch leaves within the window, a tunnel does not.
    #[tokio::test]
    async fn a_soft_stop_ends_watches_and_spares_tunnels() {
        let (clock, shutdown) = (Clock::movable(), Shutdown::default());
        let drain = Duration::from_secs(20);
        let streams = Streams::new(2, clock.clone(), shutdown.clone(), drain, Arc::default());
        let deadline = after(clock.now(), Duration::from_secs(3_600));
        let watch = streams.open(StreamKind::Watch, &credential(clock.now()), deadline).unwrap();
        let tunnel = streams.open(StreamKind::Tunnel, &credential(clock.now()), deadline).unwrap();
        let over = watch.over();
        tokio::pin!(over);
        assert!(tokio::time::timeout(Duration::ZERO, &mut over).await.is_err());
        shutdown.begin();
        // Looked at once, so that its moment is chosen before the clock moves.
        if tokio::time::timeout(Duration::ZERO, &mut over).await.is_err() {
            clock.advance(drain);
            over.await;
        }
        assert!(tokio::time::timeout(Duration::ZERO, tunnel.over()).await.is_err());
    }
}
