//! What runs beside requests, for ever: open streams are judged and their access renewed, uses are told to the store,
//! and what has expired is forgotten.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::identity::{Authenticator, Identity};
use crate::quota::Quotas;
use crate::session::{Fate, Opener, SessionStore, Uses};
use crate::streams::Streams;

/// Expired sessions and tokens hold memory for at most this long.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How far the store may be behind with last uses.
const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// Pause between two rounds over all open streams. A round may take as long as its slowest call to Entra.
const JUDGE_EVERY: Duration = Duration::from_secs(10);
/// Renewals at once. Each may have to wait for Entra.
const RENEWED_AT_ONCE: usize = 32;

/// What the upkeep looks after.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    /// Open streams.
    pub(crate) streams: Streams,
    /// Judges their credentials.
    pub(crate) authenticator: Authenticator,
    /// Renews their access.
    pub(crate) broker: Arc<Broker>,
    /// Forgets who uses nothing of their limits.
    pub(crate) quotas: Arc<Quotas>,
    /// Where expired things are swept from.
    pub(crate) store: Arc<dyn SessionStore>,
    /// Uses that the store has not been told yet.
    pub(crate) uses: Uses,
    /// Time.
    pub(crate) clock: Clock,
}

impl Upkeep {
    /// Judges the credentials of open streams. Some end without an event, such as an idle cookie; others have moved to
    /// a session that lives longer, or shorter.
    pub(crate) async fn judge_streams(self) {
        loop {
            self.clock.pause(JUDGE_EVERY).await;
            for opener in self.streams.openers() {
                if let Some(identity) = self.judge(&opener).await {
                    self.streams.set_deadline(&opener.credential.id, identity.ends_at());
                }
            }
        }
    }

    /// Renews the access of sessions with open streams ahead of need, though no request asks for it, and ends the streams
    /// of users who are not let in any more. Beside [`Upkeep::judge_streams`], because each renewal may wait for Entra.
    pub(crate) async fn renew_streams(self) {
        loop {
            self.clock.pause(JUDGE_EVERY).await;
            let open = futures_util::stream::iter(self.streams.openers());
            let renew = async |opener: Opener| {
                let Some(identity) = self.judge(&opener).await else { return };
                if !self.broker.has_lost_access(identity.opener()).await {
                    return;
                }
                // Meanwhile the credential may have moved to another session, which has lost nothing.
                let now = self.judge(&opener).await;
                if now.is_some_and(|now| now.session().id == identity.session().id) {
                    self.end(&opener, Fate::Dormant);
                }
            };
            open.for_each_concurrent(RENEWED_AT_ONCE, renew).await;
        }
    }

    /// Tells the store who used what.
    pub(crate) async fn flush_uses(self) {
        loop {
            self.clock.pause(FLUSH_EVERY).await;
            if let Err(error) = self.uses.flush().await {
                tracing::warn!(%error, "could not note last uses; they are kept for the next time");
            }
        }
    }

    /// Forgets what has expired.
    pub(crate) async fn sweep(self) {
        loop {
            self.clock.pause(SWEEP_EVERY).await;
            if let Err(error) = self.store.sweep(self.clock.now()).await {
                tracing::warn!(%error, "could not forget what has expired");
            }
            self.broker.sweep();
            self.streams.sweep();
            self.quotas.sweep();
        }
    }

    /// Whether the credential of an open stream still stands; ends its streams where it does not.
    async fn judge(&self, opener: &Opener) -> Option<Identity> {
        match self.authenticator.confirm(opener).await {
            Ok(identity) => Some(identity),
            Err(refused) => {
                // A store that does not answer is no reason to end anything, until it was silent for so long that requests are
                // not served either: a revocation may be among what it could not tell.
                let lost = || self.store.is_lost().then_some(Fate::Unknown);
                if let Some(fate) = refused.fate().or_else(lost) {
                    self.end(opener, fate);
                }
                None
            }
        }
    }

    fn end(&self, opener: &Opener, fate: Fate) {
        let credential = &opener.credential;
        tracing::info!(user = %credential.user.oid, credential = %credential.id, ?fate, "streams ended");
        self.streams.end_of(&credential.id, fate);
    }
}
