//! Turns a permitted request into one that is made as the user: [`Permit`] in, [`Delegated`] out.
//!
//! A session's AKS token is cached and renewed ahead of need. There is one flight to Entra per session at a time; it
//! runs in a task of its own, so a caller that leaves cancels nothing, and whoever waits for it gets its result.
//! Failures are remembered for a while, so that a thousand impatient clients do not become a thousand calls.

mod flight;
mod memory;
mod slot;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use http::HeaderValue;
use thiserror::Error;

use self::flight::Need;
use self::memory::FaultMemory;
use self::slot::{Slot, Token};
use crate::clock::{Clock, after, until};
use crate::entra::{Class, Entra, EntraFault};
use crate::identity::Identity;
use crate::policy::Permit;
use crate::route::Facts;
use crate::session::{MemoryStore, Session, SessionId, StoreError};
use crate::shutdown::Shutdown;
use crate::streams::Streams;

/// A token is used until this long before it expires: the API server judges by its own clock.
const LAST_USE: Duration = Duration::from_secs(10);
/// Of one session: attempts to renew ahead of need, and renewals that a 401 or the user forces.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// Evidence that a request is made as its user: the only thing that upstream accepts. Made here only.
#[derive(Debug)]
pub struct Delegated {
    permit: Permit,
    token: Arc<Token>,
}

/// Why there is no AKS token.
#[derive(Clone, Debug, Error)]
pub enum BrokerError {
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
pub enum RenewError {
    /// It was renewed a moment ago; holds how long to wait.
    #[error("renewed a moment ago")]
    TooSoon(Duration),
    /// It was tried.
    #[error(transparent)]
    Failed(#[from] BrokerError),
}

/// The broker of this process.
#[derive(Debug)]
pub struct Broker {
    entra: Arc<Entra>,
    store: Arc<MemoryStore>,
    streams: Streams,
    clock: Clock,
    shutdown: Shutdown,
    slots: DashMap<SessionId, Arc<Slot>>,
    faults: FaultMemory,
}

impl Delegated {
    /// The credential that goes upstream: `Bearer` and the user's AKS token, marked sensitive.
    pub(crate) fn authorization(&self) -> HeaderValue {
        self.token.authorization.clone()
    }

    /// Whose request it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.permit.identity()
    }

    /// What the request's head says.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.permit.facts()
    }
}

impl Broker {
    /// A broker with an empty cache.
    #[must_use]
    pub fn new(
        entra: Arc<Entra>,
        store: Arc<MemoryStore>,
        streams: Streams,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let faults = FaultMemory::default();
        Arc::new(Self { entra, store, streams, clock, shutdown, slots: DashMap::new(), faults })
    }

    /// Gives a permitted request its user's AKS token.
    ///
    /// # Errors
    /// Why there is none; the caller's session may have ended by it.
    pub async fn delegate(self: &Arc<Self>, permit: Permit) -> Result<Delegated, BrokerError> {
        let token = self.token(permit.identity().session()).await?;
        Ok(Delegated { permit, token })
    }

    /// After a 401 of the API server: a newer token for the same request, where asking for one makes sense.
    ///
    /// Not for a token younger than a minute, not twice a minute in a session, and never on a proxy path, where a pod
    /// may have said it.
    pub async fn renew_after_401(self: &Arc<Self>, delegated: Delegated) -> Result<Delegated, Delegated> {
        let session = delegated.identity().session().clone();
        let now = self.clock.now();
        let is_young = now < after(delegated.token.minted_at, RENEW_EVERY);
        if is_young || delegated.facts().is_proxy {
            return Err(delegated);
        }
        let slot = self.slot(&session.id);
        // Another request may have renewed it meanwhile.
        if let Some(current) = slot.current().filter(|current| current.minted_at > delegated.token.minted_at)
        {
            return Ok(Delegated { token: current, ..delegated });
        }
        if slot.force(now, RENEW_EVERY).is_err() {
            return Err(delegated);
        }
        match self.fly(&slot, &session, Need::Newer).await {
            Ok(token) => Ok(Delegated { token, ..delegated }),
            Err(_) => Err(delegated),
        }
    }

    /// "Renew my access": a fresh AKS token now.
    ///
    /// # Errors
    /// When it was done less than a minute ago, or failed.
    pub async fn renew(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), RenewError> {
        let slot = self.slot(&session.id);
        slot.force(self.clock.now(), RENEW_EVERY).map_err(RenewError::TooSoon)?;
        self.fly(&slot, session, Need::NewerNow).await?;
        Ok(())
    }

    /// Makes sure that the session has an AKS token: right after a sign-in, to learn of policies at once.
    ///
    /// # Errors
    /// Why it has none.
    pub async fn prepare(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), BrokerError> {
        self.faults.forget(&session.user);
        self.token(session).await.map(drop)
    }

    /// For a session with open streams: renews its token ahead of need, as a request would, and tells whether its user
    /// has lost access. An Entra that does not answer, or an administrator's fault, takes nobody's access away.
    pub async fn has_lost_access(self: &Arc<Self>, session: &Arc<Session>) -> bool {
        match self.token(session).await {
            Ok(_) | Err(BrokerError::Store(_) | BrokerError::Stopping) => false,
            Err(BrokerError::SessionEnded) => true,
            Err(BrokerError::Entra(fault)) => !matches!(fault.class, Class::Transient | Class::Admin),
        }
    }

    /// Whether the session waits for its user, to meet a demand or to be let in again.
    #[must_use]
    pub fn waits_for_its_user(&self, session: &Session) -> bool {
        // One whose token is still good does not wait yet: only its renewal has met the demand.
        let current = self.slots.get(&session.id).and_then(|slot| slot.current());
        let works = current.is_some_and(|token| until(self.clock.now(), token.expires_at) > LAST_USE);
        !works
            && self
                .standing_fault(session)
                .is_some_and(|fault| matches!(fault.class, Class::StepUp | Class::Blocked))
    }

    /// The last failure that stands between the session and an AKS token, where there is one.
    #[must_use]
    pub fn standing_fault(&self, session: &Session) -> Option<Arc<EntraFault>> {
        self.faults.standing(session)
    }

    /// Forgets what nobody will ask for again.
    pub async fn sweep(&self) {
        let ids: Vec<SessionId> = self.slots.iter().map(|slot| slot.key().clone()).collect();
        for id in ids {
            if matches!(self.store.grant(&id).await, Ok(None)) {
                self.slots.remove(&id);
            }
        }
        self.faults.sweep(self.clock.now());
    }

    async fn token(self: &Arc<Self>, session: &Arc<Session>) -> Result<Arc<Token>, BrokerError> {
        let slot = self.slot(&session.id);
        let now = self.clock.now();
        if let Some(token) = slot.current()
            && until(now, token.expires_at) > LAST_USE
        {
            if now >= token.renew_at && slot.try_ahead(now, RENEW_EVERY) {
                // It runs by itself; a failure a moment ago is reason enough to leave it for now.
                let _under_way = self.take_off(&slot, session, Need::Newer);
            }
            return Ok(token);
        }
        self.fly(&slot, session, Need::Usable).await
    }

    fn slot(&self, session: &SessionId) -> Arc<Slot> {
        if let Some(slot) = self.slots.get(session) {
            return slot.clone();
        }
        self.slots.entry(session.clone()).or_default().clone()
    }
}
