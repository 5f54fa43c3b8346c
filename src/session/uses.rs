//! Last uses of credentials, gathered here and told to the store in batches: a busy token costs no write per request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::{Credential, LastUse, SessionStore, StoreError};
use crate::clock::until;
use crate::secret::Digest;

/// A use less than this after the one that the store knows of, from the same address, is not worth telling.
const RESOLUTION: Duration = Duration::from_secs(60);
/// Of a cookie's idle time, so that a short one is judged just as well.
const SHARE_OF_IDLE: u32 = 10;

/// One credential's last use.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// The credential.
    pub(crate) credential: Arc<Credential>,
    /// When and from where.
    pub(crate) last: LastUse,
}

/// Uses that the store has not been told yet. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Uses {
    store: Arc<dyn SessionStore>,
    pending: Arc<DashMap<Digest, Use>>,
    /// One batch at a time: who comes meanwhile finds it told.
    telling: Arc<Mutex<()>>,
}

impl Uses {
    /// None yet; they will go to `store`.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self { store, pending: Arc::default(), telling: Arc::default() }
    }

    /// Notes a use. `known` is the last use that the store knows of.
    pub(crate) fn note(
        &self,
        credential: &Arc<Credential>,
        known: Option<LastUse>,
        now: Timestamp,
        from: IpAddr,
    ) {
        let resolution = credential.idle.map_or(RESOLUTION, |idle| RESOLUTION.min(idle / SHARE_OF_IDLE));
        if known.is_some_and(|last| last.from == from && until(last.at, now) < resolution) {
            return;
        }
        // Most requests of a busy second only read here.
        let is_noted = |noted: &LastUse| noted.from == from && noted.at.as_second() == now.as_second();
        if !self.pending.get(&credential.digest).is_some_and(|noted| is_noted(&noted.last)) {
            let used = Use { credential: credential.clone(), last: LastUse { at: now, from } };
            self.pending.insert(credential.digest, used);
        }
    }

    /// The credential's last use, told to the store or not.
    #[must_use]
    pub(crate) fn last(&self, digest: &Digest, known: Option<LastUse>) -> Option<LastUse> {
        let pending = self.pending.get(digest).map(|noted| noted.last);
        [pending, known].into_iter().flatten().max_by_key(|last| last.at)
    }

    /// Tells the store.
    ///
    /// # Errors
    /// When it does not answer; what it was not told is told with the next batch.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.telling.lock().await;
        let batch: Vec<Use> = self.pending.iter().map(|noted| noted.clone()).collect();
        if batch.is_empty() {
            return Ok(());
        }
        self.store.touch(&batch).await?;
        for told in &batch {
            self.pending.remove_if(&told.credential.digest, |_, noted| noted.last == told.last);
        }
        Ok(())
    }
}
