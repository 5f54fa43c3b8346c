//! One call to Entra for one session, in a task of its own; everyone who needs its result waits for the same call.

use std::sync::Arc;

use tokio::sync::watch;

use super::slot::{Renewal, Slot, Token};
use super::{Broker, BrokerError, LAST_USE};
use crate::clock::until;
use crate::entra::{Class, EntraFault, Minted};
use crate::session::{AksGrant, Ending, Grant, Opener, Session};

/// Which token will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Any that is still good, also one that another replica minted.
    Usable,
    /// A newer one, unless a call failed a moment ago.
    Newer,
    /// A newer one, because its user asks for it.
    NewerNow,
}

impl Broker {
    /// Waits for the session's renewal; starts one where none is under way.
    pub(super) async fn renew_and_wait(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        opener: &Opener,
        need: Need,
    ) -> Result<Arc<Token>, BrokerError> {
        loop {
            let mut renewal = self.start_or_join(slot, opener, need)?;
            let result = renewal.result.wait_for(Option::is_some).await;
            let token =
                result.ok().and_then(|result| result.clone()).unwrap_or(Err(BrokerError::Stopping))?;
            // Example: after a 401 we need a newer token, but the renewal that we joined had been started for "any good
            // one" and found the refused token in the store. Then a second one is started.
            if renewal.asks_entra || need == Need::Usable {
                return Ok(token);
            }
        }
    }

    /// Starts a renewal, or returns the one that is under way.
    ///
    /// # Errors
    /// The failure of a moment ago that makes a new call pointless.
    pub(super) fn start_or_join(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        opener: &Opener,
        need: Need,
    ) -> Result<Renewal, BrokerError> {
        let mut state = slot.state();
        // When the process stops, the task of a renewal is dropped, and with it the sender of the result.
        if let Some(renewal) = state.renewal.as_ref().filter(|renewal| renewal.result.has_changed().is_ok()) {
            return Ok(renewal.clone());
        }
        if let Some(fault) = self.backoff.active(&opener.session, self.clock.now()) {
            // A user may insist on a new call, but not against a time that Entra itself asked for.
            if need != Need::NewerNow || fault.retry_after.is_some() {
                return Err(BrokerError::Entra(fault));
            }
        }
        let (sender, result) = watch::channel(None);
        let renewal = Renewal { result, asks_entra: need != Need::Usable };
        state.renewal = Some(renewal.clone());
        drop(state);
        let (this, slot, opener) = (self.clone(), slot.clone(), opener.clone());
        self.shutdown.spawn("token renewal", async move {
            let result = this.fetch(&slot, &opener, need).await;
            // From here on a request starts a new renewal; those who wait still get this result.
            slot.state().renewal = None;
            sender.send_replace(Some(result));
        });
        Ok(renewal)
    }

    async fn fetch(&self, slot: &Slot, opener: &Opener, need: Need) -> Result<Arc<Token>, BrokerError> {
        let Some(grant) = self.store.grant(opener).await? else { return Err(self.session_ended(opener)) };
        if need == Need::Usable
            && let Some(token) = self.usable(&grant)
        {
            slot.publish(&token);
            return Ok(token);
        }
        match self.entra.mint_aks_token(&grant.refresh_token).await {
            Ok(minted) => self.minted(slot, opener, grant, minted).await,
            Err(fault) => Err(self.refused(&opener.session, fault).await),
        }
    }

    /// The session ended, and a request that had found it just before has made a slot for it again.
    fn session_ended(&self, opener: &Opener) -> BrokerError {
        self.slots.remove(&opener.session.id);
        BrokerError::SessionEnded
    }

    /// A token that came with the sign-in or that another replica minted.
    fn usable(&self, grant: &Grant) -> Option<Arc<Token>> {
        let aks = grant.aks.as_ref().filter(|aks| until(self.clock.now(), aks.expires_at) > LAST_USE)?;
        Token::new(aks).map(Arc::new)
    }

    /// Keeps what Entra gave, and publishes the new token.
    async fn minted(
        &self,
        slot: &Slot,
        opener: &Opener,
        old: Grant,
        minted: Minted,
    ) -> Result<Arc<Token>, BrokerError> {
        let aks = AksGrant {
            token: minted.aks_token,
            minted_at: minted.minted_at,
            expires_at: minted.expires_at,
            refresh_in: minted.refresh_in,
        };
        let malformed = || BrokerError::Entra(Arc::new(EntraFault::unusable_token()));
        let token = Arc::new(Token::new(&aks).ok_or_else(malformed)?);
        let grant = Grant {
            refresh_token: minted.refresh_token.unwrap_or(old.refresh_token),
            granted_at: aks.minted_at,
            aks: Some(aks),
        };
        // Someone who signed out meanwhile stays signed out: nothing is handed out and nothing comes back.
        if !self.store.renew(opener, grant).await? {
            return Err(self.session_ended(opener));
        }
        slot.publish(&token);
        self.backoff.succeeded(&opener.session);
        Ok(token)
    }

    /// Entra refused, or did not answer: remembers it, or ends the session where the refresh token is of no use any more.
    async fn refused(&self, session: &Session, mut fault: EntraFault) -> BrokerError {
        if fault.class == Class::StepUp && session.stepped_up {
            // The user has met the demand once already: asking again would be a loop.
            fault.class = Class::Blocked;
        }
        let ending = match fault.class {
            Class::SignIn => Ending::Natural,
            Class::Revoked => Ending::Final,
            Class::StepUp | Class::Blocked | Class::Admin | Class::AdminForUser | Class::Transient => {
                let fault = Arc::new(fault);
                self.backoff.remember(session, &fault, self.clock.now());
                return BrokerError::Entra(fault);
            }
        };
        tracing::info!(user = %session.user.oid, session = %session.id, ?ending, "Entra ended a session");
        match self.store.end_session(&session.id, ending).await {
            Ok(_) => BrokerError::Entra(Arc::new(fault)),
            Err(error) => BrokerError::Store(error),
        }
    }
}
