//! One renewal of one session's AKS token, in a task of its own; everyone who needs its result waits for the same one. Of
//! several replicas one asks Entra at a time, and the others find its result in the store.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::slot::{Renewal, Slot, Token};
use super::{Broker, BrokerError, LAST_USE};
use crate::clock::until;
use crate::entra::{Class, EntraFault, Minted};
use crate::record::session_ended;
use crate::secret::random_guid;
use crate::session::{AksGrant, Ending, Grant, Holder, Opener, Session, Turn, Wait};

/// While a failure is remembered, how often the store is asked whether another replica has a token all the same.
const STORED_EVERY: Duration = Duration::from_secs(1);

/// Which token will do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// One that was granted then or later.
    not_before: Timestamp,
    /// Its user asks for it: a failure of a moment ago is no reason not to try.
    insists: bool,
}

/// What others shall find instead of trying themselves, and for how long.
type Failure = Option<(Vec<u8>, Duration)>;

impl Need {
    /// Any that is still good, also one that another replica asked for.
    pub(super) const USABLE: Self = Self { not_before: Timestamp::MIN, insists: false };

    /// A newer one than `old`.
    pub(super) fn newer_than(old: &Token) -> Self {
        Self { not_before: just_after(old.granted_at), insists: false }
    }

    /// One that is asked for now, because its user wants it so. `current` came before that, whatever the clock said then.
    pub(super) fn from_now(now: Timestamp, current: Option<&Token>) -> Self {
        let newer = current.map_or(Timestamp::MIN, |current| just_after(current.granted_at));
        Self { not_before: newer.max(now), insists: true }
    }

    /// Whether a grant that stands in the store at this time will do.
    fn is_met_by(self, granted_at: Timestamp, now: Timestamp) -> bool {
        // One from the future was granted before a clock was set back: nothing says that it was asked for just now.
        granted_at >= self.not_before && (!self.insists || granted_at <= now)
    }

    /// Whether what meets this meets the other, too.
    fn covers(self, other: Self) -> bool {
        self.not_before >= other.not_before && (self.insists || !other.insists)
    }
}

fn just_after(granted_at: Timestamp) -> Timestamp {
    granted_at.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX)
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
            let mut renewal = match self.start_or_join(slot, opener, need) {
                Ok(renewal) => renewal,
                Err(refused) => return self.despite(refused, slot, opener, need).await,
            };
            let result = renewal.result.wait_for(Option::is_some).await;
            let result = result.ok().and_then(|result| result.clone()).unwrap_or(Err(BrokerError::Stopping));
            if matches!(result, Err(BrokerError::SessionEnded)) && renewal.by != opener.credential.id {
                // It was under way for another credential, which may have been revoked meanwhile. Ours may stand.
                continue;
            }
            let token = result?;
            // Example: after a 401 we need a newer token, but the renewal that we joined had been started for "any good
            // one" and found the refused token in the store. Then a second one is started.
            if renewal.need.covers(need) || need.is_met_by(token.granted_at, self.clock.now()) {
                return Ok(token);
            }
        }
    }

    /// A failure of a moment ago makes a call to Entra pointless; but another replica may have a token by now.
    async fn despite(
        &self,
        refused: BrokerError,
        slot: &Slot,
        opener: &Opener,
        need: Need,
    ) -> Result<Arc<Token>, BrokerError> {
        if !slot.try_stored(self.clock.instant(), STORED_EVERY) {
            return Err(refused);
        }
        match self.stored(slot, opener, need).await {
            Ok(Some(token)) => Ok(token),
            _ => Err(refused),
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
        // Looking at the channel is an error once its sender was dropped: then the task was stopped, and is not under way.
        if let Some(renewal) = state.renewal.as_ref().filter(|renewal| renewal.result.has_changed().is_ok()) {
            return Ok(renewal.clone());
        }
        if let Some(fault) = self.backoff.active(&opener.session, self.clock.instant()) {
            // A user may insist on a new call, but not against a time that Entra itself asked for.
            if !need.insists || fault.retry_after.is_some() {
                return Err(BrokerError::Entra(fault));
            }
        }
        let (sender, result) = watch::channel(None);
        let renewal = Renewal { result, need, by: opener.credential.id.clone() };
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

    /// A token from the store, or one that Entra gives when it is our turn to ask.
    async fn fetch(&self, slot: &Slot, opener: &Opener, need: Need) -> Result<Arc<Token>, BrokerError> {
        loop {
            if let Some(token) = self.stored(slot, opener, need).await? {
                return Ok(token);
            }
            let Some(holder) = self.turn(opener, need).await? else { continue };
            let (result, failure) = tokio::select! {
                done = self.fetch_in_turn(slot, opener, need) => done,
                () = self.store.hold(opener, &holder) => (Err(BrokerError::Stopping), None),
            };
            self.store.give_back(opener, holder, failure).await;
            return result;
        }
    }

    /// The turn to ask Entra; `None`: another replica had it, and something may have changed.
    async fn turn(&self, opener: &Opener, need: Need) -> Result<Option<Holder>, BrokerError> {
        let mut turn = self.store.turn(opener, false).await?;
        if let Turn::Failed(told, left) = &turn {
            let fault = self.failed_elsewhere(&opener.session, told, *left);
            // A user may insist on a new call, but not against a time that Entra itself asked for.
            if !need.insists || fault.retry_after.is_some() {
                return Err(BrokerError::Entra(fault));
            }
            turn = self.store.turn(opener, true).await?;
        }
        Ok(match turn {
            Turn::Ours(holder) => Some(holder),
            Turn::Theirs | Turn::Failed(..) => None,
        })
    }

    async fn fetch_in_turn(
        &self,
        slot: &Slot,
        opener: &Opener,
        need: Need,
    ) -> (Result<Arc<Token>, BrokerError>, Failure) {
        // Whose turn it was before may have finished between our look at the store and our turn.
        let grant = match self.store.grant(opener).await {
            Err(error) => return (Err(error.into()), None),
            Ok(None) => return (Err(session_ended_for(slot)), None),
            Ok(Some(grant)) => grant,
        };
        if let Some(token) = self.acceptable(&grant, need) {
            slot.publish(&token);
            return (Ok(token), None);
        }
        match self.minter.mint(&grant.refresh_token).await {
            Ok(minted) => (self.minted(slot, opener, grant, minted).await, None),
            Err(fault) => self.refused(&opener.session, &grant, fault).await,
        }
    }

    /// A token that came with the sign-in or that another replica asked for, where it will do.
    async fn stored(
        &self,
        slot: &Slot,
        opener: &Opener,
        need: Need,
    ) -> Result<Option<Arc<Token>>, BrokerError> {
        let Some(grant) = self.store.grant(opener).await? else { return Err(session_ended_for(slot)) };
        let token = self.acceptable(&grant, need);
        if let Some(token) = &token {
            slot.publish(token);
        }
        Ok(token)
    }

    fn acceptable(&self, grant: &Grant, need: Need) -> Option<Arc<Token>> {
        let aks = grant.aks.as_ref().filter(|_| need.is_met_by(grant.granted_at, self.clock.now()))?;
        let token = Token::new(aks, grant.granted_at, &self.clock)?;
        token.is_usable(&self.clock).then(|| Arc::new(token))
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
        // It was granted after the one that it came for, also where the clock was set back between the two: of two grants the
        // store keeps the later one.
        let granted_at = aks.minted_at.max(just_after(old.granted_at));
        let malformed = || BrokerError::Entra(Arc::new(EntraFault::unusable_token()));
        let token = Arc::new(Token::new(&aks, granted_at, &self.clock).ok_or_else(malformed)?);
        let refresh_token = minted.refresh_token.unwrap_or(old.refresh_token);
        let grant = Grant { refresh_token, granted_at, aks: Some(aks) };
        // Someone who signed out meanwhile stays signed out: nothing is handed out and nothing comes back.
        if !self.store.renew(opener, grant).await? {
            return Err(session_ended_for(slot));
        }
        slot.publish(&token);
        self.backoff.succeeded(&opener.session);
        Ok(token)
    }

    /// Entra refused, or did not answer: remembers it, here and for the other replicas, or ends the session where the
    /// refresh token is of no use any more.
    async fn refused(
        &self,
        session: &Session,
        grant: &Grant,
        mut fault: EntraFault,
    ) -> (Result<Arc<Token>, BrokerError>, Failure) {
        // A step-up that no usable token followed has not met its demand, and another one would be a loop. The grant tells,
        // which every replica finds in the store. Once there was such a token, a demand is a new one.
        if fault.class == Class::StepUp && session.stepped_up && !has_been_usable(grant) {
            fault.class = Class::Blocked;
        }
        let wait = match fault.class {
            Class::StepUp => Some(Wait::StepUp),
            Class::Blocked => Some(Wait::Blocked),
            _ => None,
        };
        if let Some(wait) = wait
            && let Err(error) = self.store.note_wait(session, wait).await
        {
            tracing::warn!(session = %session.id, %error, "could not note that a session waits for its user");
        }
        let ending = match fault.class {
            Class::SignIn => Ending::Natural,
            Class::Revoked => Ending::Final,
            Class::StepUp | Class::Blocked | Class::Admin | Class::AdminForUser | Class::Transient => {
                let told = serde_json::to_vec(&fault).unwrap_or_default();
                let fault = Arc::new(fault);
                let pause = self.backoff.remember(session, &fault, &self.clock);
                return (Err(BrokerError::Entra(fault)), Some((told, pause)));
            }
        };
        tracing::info!(user = %session.user.oid, session = %session.id, ?ending, "Entra ended a session");
        let ended = self.store.end_session(session, ending).await;
        // Where it had ended before, that was told then.
        if let Ok(true) = ended {
            let cause = if ending == Ending::Final { "revoked_by_entra" } else { "refused_by_entra" };
            session_ended(&self.audit, session, cause, &random_guid());
        }
        let fault = Arc::new(fault);
        let error = match ended {
            Ok(_) => BrokerError::Entra(fault),
            Err(error) => {
                // Entra need not say it again for each request, until the store can be told.
                self.backoff.remember(session, &fault, &self.clock);
                BrokerError::Store(error)
            }
        };
        (Err(error), None)
    }

    /// What another replica was told by Entra a moment ago, remembered for as long as it does.
    fn failed_elsewhere(&self, session: &Session, told: &[u8], left: Duration) -> Arc<EntraFault> {
        let fault = serde_json::from_slice::<EntraFault>(told);
        // Another version's words that this one does not understand: still no reason to ask at once.
        let fault = Arc::new(fault.unwrap_or_else(|_| EntraFault::unusable_token()));
        self.backoff.remember_for(session, &fault, &self.clock, left);
        fault
    }
}

/// The next request asks the store, too, and learns what has ended.
fn session_ended_for(slot: &Slot) -> BrokerError {
    slot.drop_token();
    BrokerError::SessionEnded
}

/// Whether the grant's AKS token, where one was minted, lived long enough for a request.
fn has_been_usable(grant: &Grant) -> bool {
    grant.aks.as_ref().is_some_and(|aks| until(aks.minted_at, aks.expires_at) > LAST_USE)
}
