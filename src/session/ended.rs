//! The one event that tells what has ended, so that open streams end and cached AKS tokens are dropped.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::{CredentialId, SessionId};

/// What has ended by one change of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Sessions that are no more.
    pub(crate) sessions: Vec<SessionId>,
    /// Credentials that open no session any more, and what became of each.
    pub(crate) credentials: Vec<(CredentialId, Fate)>,
}

/// What became of a credential that opens no session any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A proxy token whose session ended, or whose user lost access: it can be armed again.
    Dormant,
    /// Revoked, signed out or superseded: it never works again.
    Void,
    /// Its own time has come.
    Expired,
    /// Nobody knows: the store has been silent for too long.
    Unknown,
}

type Listener = Box<dyn Fn(&Ended) + Send + Sync>;

/// Where a store publishes what has ended: what its own callers ended, and what it hears from other replicas. A clone
/// is another handle to the same listeners.
#[derive(Clone, Default)]
pub(crate) struct Endings {
    listeners: Arc<RwLock<Vec<Listener>>>,
}

impl Endings {
    /// Adds a listener. It is called in the task that ends something, so it must neither block nor call the store.
    pub(crate) fn listen(&self, listener: impl Fn(&Ended) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Tells all listeners. When it returns, each has acted on it.
    pub(crate) fn publish(&self, ended: &Ended) {
        if ended.sessions.is_empty() && ended.credentials.is_empty() {
            return;
        }
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(ended);
        }
    }
}

impl fmt::Debug for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endings")
    }
}
