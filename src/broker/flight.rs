//! One call to Entra for one session, in a task of its own; everyone who needs its result waits for the same.

use std::sync::Arc;

use tokio::sync::watch;

use super::slot::{Flight, Slot, Token};
use super::{Broker, BrokerError, LAST_USE};
use crate::clock::until;
use crate::entra::{Class, EntraFault, Minted};
use crate::session::{Ending, Grant, Session};

/// Which token will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Any that is still good, also one that another replica minted.
    Usable,
    /// A newer one, unless a call was pointless a moment ago.
    Newer,
    /// A newer one, because its user asks for it.
    NewerNow,
}

impl Broker {
    /// Waits for the session's flight; begins one where none is under way.
    pub(super) async fn fly(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        session: &Arc<Session>,
        need: Need,
    ) -> Result<Arc<Token>, BrokerError> {
        loop {
            let mut flight = self.take_off(slot, session, need)?;
            let landing = flight.landing.wait_for(Option::is_some).await;
            let landed =
                landing.ok().and_then(|landed| landed.clone()).unwrap_or(Err(BrokerError::Stopping))?;
            // Whoever wants a newer token does not settle for the one that a flight for any found in the store.
            if flight.mints || need == Need::Usable {
                return Ok(landed);
            }
        }
    }

    /// Begins a flight, or finds the one under way.
    ///
    /// # Errors
    /// The failure that makes a new one pointless right now.
    pub(super) fn take_off(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        session: &Arc<Session>,
        need: Need,
    ) -> Result<Flight, BrokerError> {
        let mut state = slot.state();
        // A flight whose task was ended by the process's stop has lost its sender.
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.landing.has_changed().is_ok()) {
            return Ok(flight.clone());
        }
        if let Some(fault) = self.faults.active(session, self.clock.now()) {
            // A user may insist on a new look, but not against a time that Entra itself asked for.
            if need != Need::NewerNow || fault.retry_after.is_some() {
                return Err(BrokerError::Entra(fault));
            }
        }
        let (sender, landing) = watch::channel(None);
        let flight = Flight { landing, mints: need != Need::Usable };
        state.flight = Some(flight.clone());
        drop(state);
        let (this, slot, session) = (self.clone(), slot.clone(), session.clone());
        self.shutdown.spawn("token flight", async move {
            let result = this.fetch(&slot, &session, need).await;
            // From here on a request begins a new flight; those who wait still get this result.
            slot.state().flight = None;
            sender.send_replace(Some(result));
        });
        Ok(flight)
    }

    async fn fetch(&self, slot: &Slot, session: &Session, need: Need) -> Result<Arc<Token>, BrokerError> {
        let grant = self.store.grant(&session.id).await?.ok_or(BrokerError::SessionEnded)?;
        if need == Need::Usable
            && let Some(token) = self.usable(&grant)
        {
            slot.publish(&token);
            return Ok(token);
        }
        match self.entra.mint_aks_token(&grant.refresh_token).await {
            Ok(minted) => self.land(slot, session, grant, minted).await,
            Err(fault) => Err(self.crash(slot, session, fault).await),
        }
    }

    /// A token that came with the sign-in or that another replica minted.
    fn usable(&self, grant: &Grant) -> Option<Arc<Token>> {
        let aks = grant.aks.as_ref().filter(|aks| until(self.clock.now(), aks.expires_at) > LAST_USE)?;
        Token::new(aks).map(Arc::new)
    }

    async fn land(
        &self,
        slot: &Slot,
        session: &Session,
        old: Grant,
        minted: Minted,
    ) -> Result<Arc<Token>, BrokerError> {
        let malformed = || BrokerError::Entra(Arc::new(EntraFault::unusable_token()));
        let token = Arc::new(Token::new(&minted).ok_or_else(malformed)?);
        let grant = Grant {
            refresh_token: minted.refresh_token.clone().unwrap_or(old.refresh_token),
            granted_at: minted.minted_at,
            aks: Some(Arc::new(minted)),
        };
        // Someone who signed out meanwhile stays signed out: nothing is handed out and nothing comes back.
        if !self.store.renew(&session.id, grant).await? {
            return Err(BrokerError::SessionEnded);
        }
        slot.publish(&token);
        self.faults.succeeded(session);
        Ok(token)
    }

    async fn crash(&self, slot: &Slot, session: &Session, mut fault: EntraFault) -> BrokerError {
        if fault.class == Class::StepUp && session.stepped_up {
            // The user has met the demand once already: asking again would be a loop.
            fault.class = Class::Blocked;
        }
        let ending = match fault.class {
            Class::SignIn => Some(Ending::Natural),
            Class::Revoked => Some(Ending::Final),
            Class::StepUp | Class::Blocked | Class::Admin | Class::AdminForUser | Class::Transient => None,
        };
        let fault = Arc::new(fault);
        let Some(ending) = ending else {
            self.faults.remember(session, &fault, self.clock.now());
            return BrokerError::Entra(fault);
        };
        tracing::info!(user = %session.user.oid, session = %session.id, ?ending, "Entra ended a session");
        slot.clear();
        match self.store.end_session(&session.id, ending).await {
            Ok(ended) => self.streams.end(&ended),
            Err(error) => return BrokerError::Store(error),
        }
        self.slots.remove(&session.id);
        BrokerError::Entra(fault)
    }
}
