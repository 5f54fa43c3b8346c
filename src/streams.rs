//! Open streams, registered with the credential that opened them, so that its end ends them.

use std::sync::Arc;

use dashmap::DashMap;
use jiff::Timestamp;
use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::session::{CredentialId, UserKey};

/// What a stream is, for its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A watch or another answer that may never end.
    Watch,
    /// An upgraded connection.
    Tunnel,
}

/// All open streams of this process.
#[derive(Clone, Debug)]
pub struct Streams {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Cancelled when the credential ends; kept while it has streams.
    credentials: DashMap<CredentialId, Entry>,
    per_user: DashMap<UserKey, usize>,
    max_per_user: usize,
    clock: Clock,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Entry {
    ended: CancellationToken,
    streams: usize,
}

/// One open stream. Dropping it takes it off the books.
#[derive(Debug)]
pub struct Stream {
    inner: Arc<Inner>,
    credential: CredentialId,
    user: UserKey,
    ended: CancellationToken,
    deadline: Timestamp,
    gauge: IntGauge,
}

/// The user has as many streams open as one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyStreams;

impl Streams {
    /// No streams yet.
    #[must_use]
    pub fn new(max_per_user: usize, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let inner =
            Inner { credentials: DashMap::new(), per_user: DashMap::new(), max_per_user, clock, metrics };
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
        credential: CredentialId,
        user: UserKey,
        deadline: Timestamp,
    ) -> Result<Stream, TooManyStreams> {
        {
            let mut count = self.inner.per_user.entry(user.clone()).or_insert(0);
            if *count >= self.inner.max_per_user {
                return Err(TooManyStreams);
            }
            *count += 1;
        }
        let ended = {
            let mut entry = self.inner.credentials.entry(credential.clone()).or_default();
            entry.streams += 1;
            entry.ended.clone()
        };
        let label = match kind {
            StreamKind::Watch => "watch",
            StreamKind::Tunnel => "tunnel",
        };
        let gauge = self.inner.metrics.streams.with_label_values(&[label]);
        gauge.inc();
        Ok(Stream { inner: self.inner.clone(), credential, user, ended, deadline, gauge })
    }

    /// Ends the streams of credentials that are no more.
    pub fn end(&self, credentials: &[CredentialId]) {
        for credential in credentials {
            if let Some(entry) = self.inner.credentials.get(credential) {
                entry.ended.cancel();
            }
        }
    }
}

impl Stream {
    /// Resolves when the stream must end: its credential was ended, or has come to its end.
    pub async fn over(&self) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = self.inner.clock.sleep_until(self.deadline) => {}
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.gauge.dec();
        if let Some(mut entry) = self.inner.credentials.get_mut(&self.credential) {
            entry.streams -= 1;
        }
        self.inner.credentials.remove_if(&self.credential, |_, entry| entry.streams == 0);
        if let Some(mut count) = self.inner.per_user.get_mut(&self.user) {
            *count -= 1;
        }
        self.inner.per_user.remove_if(&self.user, |_, count| *count == 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::after;

    fn user() -> UserKey {
        UserKey { tid: "t".into(), oid: "o".into() }
    }

    /// A stream ends with its credential, and only with its own.
    #[tokio::test]
    async fn a_stream_ends_with_its_credential() {
        let clock = Clock::movable();
        let streams = Streams::new(2, clock.clone(), Arc::default());
        let deadline = after(clock.now(), Duration::from_secs(60));
        let (one, two) = (CredentialId::random(), CredentialId::random());
        let first = streams.open(StreamKind::Watch, one.clone(), user(), deadline).unwrap();
        let second = streams.open(StreamKind::Tunnel, two, user(), deadline).unwrap();
        assert_eq!(
            streams.open(StreamKind::Watch, one.clone(), user(), deadline).unwrap_err(),
            TooManyStreams
        );
        streams.end(std::slice::from_ref(&one));
        first.over().await;
        assert!(tokio::time::timeout(Duration::ZERO, second.over()).await.is_err());
        drop(first);
        streams.open(StreamKind::Watch, one, user(), deadline).unwrap();
        clock.advance(Duration::from_secs(61));
        second.over().await;
    }
}
