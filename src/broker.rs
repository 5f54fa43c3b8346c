//! Turns an admitted request into one that is made as the user: [`Admitted`] in, [`Delegated`] out.
//!
//! A session's AKS token is cached and renewed ahead of need. At most one call to Entra is under way for a session; it
//! runs in a task of its own, so that a client that disconnects cancels nothing, and all who wait share its result
//! (what Go calls `singleflight`). Failures are remembered for a while: a thousand impatient clients are not a thousand
//! calls.

mod backoff;
mod renewal;
mod slot;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use http::HeaderValue;
use thiserror::Error;

use self::backoff::Backoff;
use self::renewal::Need;
use self::slot::{Slot, Token, Use};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::entra::{Class, Entra, EntraFault, Minted};
use crate::identity::Identity;
use crate::quota::{Admitted, Share};
use crate::route::Facts;
use crate::secret::RefreshToken;
use crate::session::{Ended, Opener, Session, SessionEnd, SessionId, SessionStore, StoreError};
use crate::shutdown::Shutdown;

/// A token is used until this long before it expires: the API server judges by its own clock.
const LAST_USE: Duration = Duration::from_secs(10);
/// Of one session: attempts to renew ahead of need, and renewals that a 401 or the user forces.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// Evidence that a request is made as its user: the only thing that upstream accepts. Made here only.
#[derive(Debug)]
pub(crate) struct Delegated {
    admitted: Admitted,
    token: Arc<Token>,
    was_cached: bool,
}

/// Why there is no AKS token.
#[derive(Clone, Debug, Error)]
pub(crate) enum BrokerError {
    /// Entra refused, or does not answer.
    #[error("no AKS token: {0}")]
    Entra(Arc<EntraFault>),
    /// The session ended while we asked.
    #[error("the session has ended")]
    SessionEnded,
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

/// Why access was not renewed on demand.
#[derive(Clone, Debug, Error)]
pub(crate) enum RenewError {
    /// It was renewed a moment ago; holds how long to wait.
    #[error("renewed a moment ago")]
    TooSoon(Duration),
    /// It was tried.
    #[error(transparent)]
    Failed(#[from] BrokerError),
}

/// Who gives AKS tokens: Entra, and in the simulation of several replicas one that counts.
#[async_trait]
pub(crate) trait Minter: fmt::Debug + Send + Sync {
    /// Redeems a refresh token for an AKS token.
    ///
    /// # Errors
    /// The refusal, or that nobody answered.
    async fn mint(&self, refresh_token: &RefreshToken) -> Result<Minted, EntraFault>;
}

/// The broker of this process.
#[derive(Debug)]
pub(crate) struct Broker {
    minter: Arc<dyn Minter>,
    store: Arc<dyn SessionStore>,
    clock: Clock,
    shutdown: Shutdown,
    audit: Audit,
    slots: DashMap<SessionId, Arc<Slot>>,
    backoff: Backoff,
}

#[async_trait]
impl Minter for Entra {
    async fn mint(&self, refresh_token: &RefreshToken) -> Result<Minted, EntraFault> {
        self.mint_aks_token(refresh_token).await
    }
}

impl Delegated {
    /// The credential that goes upstream: `Bearer` and the user's AKS token, marked sensitive.
    pub(crate) fn authorization(&self) -> HeaderValue {
        self.token.authorization.clone()
    }

    /// Whose request it is.
    #[must_use]
    pub(crate) fn identity(&self) -> &Identity {
        self.admitted.identity()
    }

    /// What the request's head says.
    #[must_use]
    pub(crate) fn facts(&self) -> &Facts {
        self.admitted.facts()
    }

    /// Whether its token was at hand, and nobody waited for Entra.
    #[must_use]
    pub(crate) fn was_cached(&self) -> bool {
        self.was_cached
    }

    /// Takes the request's place among its user's, to be held until its answer's last byte. A stream has none.
    pub(crate) fn take_share(&mut self) -> Option<Share> {
        self.admitted.take_share()
    }
}

impl Broker {
    /// A broker with an empty cache.
    #[must_use]
    pub(crate) fn new(
        minter: Arc<dyn Minter>,
        store: Arc<dyn SessionStore>,
        clock: Clock,
        shutdown: Shutdown,
        audit: Audit,
    ) -> Arc<Self> {
        let backoff = Backoff::default();
        Arc::new(Self { minter, store, clock, shutdown, audit, slots: DashMap::new(), backoff })
    }

    /// Gives an admitted request its user's AKS token.
    ///
    /// # Errors
    /// Why there is none; the caller's session may have ended by it.
    pub(crate) async fn delegate(self: &Arc<Self>, admitted: Admitted) -> Result<Delegated, BrokerError> {
        let (token, was_cached) = self.token_of_credential(admitted.identity().opener()).await?;
        Ok(Delegated { admitted, token, was_cached })
    }

    /// After a 401 of the API server: the same request with a newer token, where asking for one makes sense.
    ///
    /// Not for a token younger than a minute, not twice a minute in a session, and never on a path that a pod answers,
    /// because then the pod may have said it.
    pub(crate) async fn renewed_after_401(self: &Arc<Self>, delegated: Delegated) -> Option<Delegated> {
        if delegated.token.age(&self.clock) < RENEW_EVERY || delegated.facts().pod_answers {
            return None;
        }
        let opener = delegated.identity().opener();
        let slot = self.slot(&opener.session);
        // Another request may have renewed it meanwhile.
        let newer = slot.current().filter(|current| current.granted_at > delegated.token.granted_at);
        if let Some(token) = newer {
            return Some(Delegated { token, ..delegated });
        }
        slot.force(self.clock.instant(), RENEW_EVERY).ok()?;
        let token = self.renew_and_wait(&slot, opener, Need::newer_than(&delegated.token)).await.ok()?;
        Some(Delegated { token, ..delegated })
    }

    /// "Renew my access": a fresh AKS token now.
    ///
    /// # Errors
    /// When it was done less than a minute ago, or failed.
    pub(crate) async fn renew(self: &Arc<Self>, opener: &Opener) -> Result<(), RenewError> {
        let slot = self.slot(&opener.session);
        let need = Need::from_now(self.clock.now(), slot.current().as_deref());
        slot.force(self.clock.instant(), RENEW_EVERY).map_err(RenewError::TooSoon)?;
        // Once a minute on all replicas together. A store that does not answer is no reason against it.
        let left = self.store.claim(opener, RENEW_EVERY).await.unwrap_or_default().min(RENEW_EVERY);
        if !left.is_zero() {
            slot.forced_elsewhere(self.clock.instant(), left);
            return Err(RenewError::TooSoon(left));
        }
        self.renew_and_wait(&slot, opener, need).await?;
        Ok(())
    }

    /// Makes sure that the session has an AKS token: right after a sign-in, to learn of policies at once. What failed for
    /// its user before the sign-in is forgotten first.
    ///
    /// # Errors
    /// Why it has none.
    pub(crate) async fn prepare(self: &Arc<Self>, opener: &Opener) -> Result<(), BrokerError> {
        self.backoff.forget(&opener.session.user);
        self.token(opener).await.map(drop)
    }

    /// For a session with open streams: renews its token ahead of need, as a request would, and tells whether its user
    /// has lost access. An Entra that does not answer, or an administrator's fault, takes nobody's access away.
    pub(crate) async fn has_lost_access(self: &Arc<Self>, opener: &Opener) -> bool {
        match self.token_of_credential(opener).await {
            Ok(_) | Err(BrokerError::Store(_) | BrokerError::Stopping) => false,
            Err(BrokerError::SessionEnded) => true,
            Err(BrokerError::Entra(fault)) => !matches!(fault.class, Class::Transient | Class::Admin),
        }
    }

    /// What stands between the session and an AKS token, where only its user or a policy can end that. Where no token is at
    /// hand, Entra is asked: another replica may have been told, or this one too long ago. Where nobody answers, what Entra
    /// said last is all that is known.
    pub(crate) async fn demanded_of_its_user(self: &Arc<Self>, opener: &Opener) -> Option<Arc<EntraFault>> {
        let is_demand = |fault: &Arc<EntraFault>| matches!(fault.class, Class::StepUp | Class::Blocked);
        match self.token_of_credential(opener).await {
            Ok(_) => None,
            Err(BrokerError::Entra(fault)) if is_demand(&fault) => Some(fault),
            Err(_) => self.backoff.last(&opener.session).filter(is_demand),
        }
    }

    /// Whether the session waits for its user, to meet a demand or to be let in again: as this replica was told by Entra a
    /// moment ago, or as the store has it from any of them.
    #[must_use]
    pub(crate) fn waits_for_its_user(&self, session: &SessionEnd) -> bool {
        // While its token is still good it does not wait yet: only the renewal has met the demand.
        let current = self.slots.get(&session.id).and_then(|slot| slot.current());
        let works = current.is_some_and(|token| token.is_usable(&self.clock));
        !works && (session.waits.is_some() || self.backoff.waits_for_its_user(&session.id))
    }

    /// The last failure that stands between the session and an AKS token, where there is one.
    #[must_use]
    pub(crate) fn last_fault(&self, session: &Session) -> Option<Arc<EntraFault>> {
        self.backoff.last(session)
    }

    /// Drops what is cached for sessions that have ended.
    pub(crate) fn forget(&self, ended: &Ended) {
        for session in &ended.sessions {
            if let Some((_, slot)) = self.slots.remove(session) {
                slot.end();
            }
            self.backoff.forget_session(session);
        }
    }

    /// Drops what nobody will ask for again.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        // One that is held stays, so that its session never has two. One without a token that nobody holds is of no use.
        let is_of_use = |slot: &Slot| now < slot.ends_at() && slot.current().is_some();
        self.slots.retain(|_, slot| Arc::strong_count(slot) > 1 || is_of_use(slot));
        self.backoff.sweep(self.clock.instant());
    }

    /// Whether a request of the opener's would get a token.
    #[cfg(test)]
    pub(crate) async fn try_token(self: &Arc<Self>, opener: &Opener) -> Result<(), BrokerError> {
        self.token(opener).await.map(drop)
    }

    /// The token, and whether it was at hand.
    async fn token(self: &Arc<Self>, opener: &Opener) -> Result<(Arc<Token>, bool), BrokerError> {
        let slot = self.slot(&opener.session);
        let Some(token) = slot.current() else {
            return Ok((self.renew_and_wait(&slot, opener, Need::USABLE).await?, false));
        };
        // Where the clock was set back, the one in the store looks usable again: so not that one.
        let newer = Need::newer_than(&token);
        match token.use_now(&self.clock) {
            Use::Over => return Ok((self.renew_and_wait(&slot, opener, newer).await?, false)),
            Use::Due if slot.try_ahead(self.clock.instant(), RENEW_EVERY) => {
                // Nobody waits for it; where a call failed a moment ago, it is left for later.
                let _under_way = self.start_or_join(&slot, opener, newer);
            }
            Use::Due | Use::Good => {}
        }
        Ok((token, true))
    }

    /// The token of the opener's session, or of the one that its credential moved to because a sign-in superseded the
    /// session while its token was waited for.
    async fn token_of_credential(
        self: &Arc<Self>,
        opener: &Opener,
    ) -> Result<(Arc<Token>, bool), BrokerError> {
        match self.token(opener).await {
            Err(BrokerError::SessionEnded) => self.token(&self.moved(opener).await?).await,
            token => token,
        }
    }

    /// The credential with the session that it has moved to.
    async fn moved(&self, from: &Opener) -> Result<Opener, BrokerError> {
        let found = self.store.find(&from.key).await?.ok_or(BrokerError::SessionEnded)?;
        let has_moved =
            |session: &Arc<Session>| session.id != from.session.id && !session.is_over(self.clock.now());
        let session = found.session.filter(has_moved).ok_or(BrokerError::SessionEnded)?;
        Ok(Opener { credential: found.credential, session, key: from.key.clone() })
    }

    fn slot(&self, session: &Session) -> Arc<Slot> {
        session.places.token.share(|| {
            let slot = self.slots.entry(session.id.clone());
            slot.or_insert_with(|| Arc::new(Slot::new(session.expires_at))).clone()
        })
    }
}
