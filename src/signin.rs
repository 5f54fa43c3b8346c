//! The sign-in flow, from the first redirect to a session with its first AKS token: pages only render what it returns.
//!
//! 1. [`SignIn::begin`] sends the browser to Entra with a fresh attempt (state, nonce, PKCE verifier).
//! 2. [`SignIn::finish`] takes the browser back: redeems the code, verifies who signed in, begins the session.
//! 3. The first AKS token is asked for at once. Consent and Conditional Access are judged there, and not at a sign-in
//!    that does not name AKS.
//! 4. A policy's demand leads to Entra once more, this time naming AKS and presenting the demand (the *step-up*). What is
//!    still refused after a step-up is told on a page, so that no browser goes round in a circle. Once a step-up has
//!    brought a token that could be used, a later demand is a new one, and leads to a step-up again.

mod attempt;
mod browser;
mod callback;
mod out;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::sync::oneshot;

use self::attempt::{Attempt, safe_return_to};
pub(crate) use self::callback::SignInError;
use self::callback::{CallbackQuery, Tokens};
use crate::broker::{Broker, BrokerError};
use crate::clock::{Clock, after, until};
use crate::config::Lifetimes;
use crate::entra::{AuthorizeRequest, Class, Entra, EntraFault, NotReady, SignedIn};
use crate::identity::{Authenticator, cookie};
use crate::metrics::Metrics;
use crate::secret::{CredentialSecret, Digest};
use crate::session::{
    AksGrant, Credential, CredentialKind, Grant, NewSession, Opener, Places, Session, SessionId,
    SessionStore, UserKey,
};
use crate::shutdown::Shutdown;

/// How long a browser waits for the first AKS token; what takes longer shows at the first request instead.
const FIRST_TOKEN_WAIT: Duration = Duration::from_secs(5);

/// Everything that a sign-in needs.
#[derive(Debug)]
pub(crate) struct SignIn {
    entra: Arc<Entra>,
    store: Arc<dyn SessionStore>,
    broker: Arc<Broker>,
    authenticator: Authenticator,
    lifetimes: Lifetimes,
    clock: Clock,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
}

/// Where to send the browser, and the cookies to set on the way.
pub(crate) struct ToEntra {
    /// Entra's authorization endpoint with all parameters.
    pub(crate) location: String,
    /// `Set-Cookie` values.
    pub(crate) cookies: Vec<HeaderValue>,
}

/// What became of a callback.
#[derive(Debug)]
pub(crate) struct Finished {
    /// What to show.
    pub(crate) outcome: Outcome,
    /// Where the user wanted to go, as far as that is known: a path on our own origin.
    pub(crate) return_to: String,
    /// `Set-Cookie` values.
    pub(crate) cookies: Vec<HeaderValue>,
    /// The new session's cookie, where there is a session.
    pub(crate) credential: Option<Arc<Credential>>,
    /// The new session.
    pub(crate) session: Option<Arc<Session>>,
}

/// What to show after a callback.
pub(crate) enum Outcome {
    /// The user is signed in: on to where they wanted to go.
    SignedIn,
    /// A policy demands more: to Entra once more, at this address.
    StepUp(String),
    /// No session: a page that says why.
    Refused(SignInError),
}

/// What a policy demanded, to be met interactively.
struct Demand {
    /// The claims challenge, as Entra gave it.
    claims: Option<String>,
    /// Whom it concerns.
    login_hint: Option<String>,
}

impl SignIn {
    /// Sessions go to `store`; the browser's old session is found by `authenticator`; `shutdown` tracks redemptions,
    /// which finish also when the browser leaves.
    #[must_use]
    pub(crate) fn new(
        entra: Arc<Entra>,
        store: Arc<dyn SessionStore>,
        broker: Arc<Broker>,
        authenticator: Authenticator,
        lifetimes: Lifetimes,
        clock: Clock,
        shutdown: Shutdown,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { entra, store, broker, authenticator, lifetimes, clock, shutdown, metrics }
    }

    /// Begins an attempt. If this session's last AKS token request failed with a step-up demand, its claims are sent
    /// along. `return_to` is what the browser asked for; it is not checked yet.
    ///
    /// # Errors
    /// While Entra's discovery has not succeeded.
    pub(crate) async fn begin(
        &self,
        headers: &HeaderMap,
        return_to: Option<&str>,
    ) -> Result<ToEntra, NotReady> {
        let demand = match self.authenticator.identify(headers).await {
            Ok(identity) if identity.is_cookie() => self.standing_demand(identity.session()),
            _ => None,
        };
        self.to_entra(headers, safe_return_to(return_to), demand.as_ref())
    }

    /// Finishes the attempt that the callback's `state` names.
    pub(crate) async fn finish(self: &Arc<Self>, query: &str, headers: &HeaderMap) -> Finished {
        let query = CallbackQuery::parse(query);
        let attempt = query.state().and_then(|state| Attempt::find(headers, state, self.clock.now()));
        let finished = match attempt {
            None => Finished::refused(SignInError::NoAttempt, "/".to_owned()),
            Some(attempt) => {
                // A state is used once, whatever becomes of it; but not while its code waits to be redeemed.
                let end = attempt.end();
                let mut finished = self.finish_attempt(attempt, query, headers).await;
                if !matches!(finished.outcome, Outcome::Refused(SignInError::Busy(_))) {
                    finished.cookies.push(end);
                }
                finished
            }
        };
        let label = match &finished.outcome {
            Outcome::Refused(error) if error.is_a_fault() => "failed",
            Outcome::Refused(_) => "refused",
            Outcome::SignedIn | Outcome::StepUp(_) => "completed",
        };
        self.metrics.sign_ins.with_label_values(&[label]).inc();
        finished
    }

    async fn finish_attempt(
        self: &Arc<Self>,
        attempt: Attempt,
        query: CallbackQuery,
        headers: &HeaderMap,
    ) -> Finished {
        let return_to = attempt.return_to.clone();
        let code = match query.code(&self.entra) {
            Ok(code) => code,
            Err(error) => return Finished::refused(error, return_to),
        };
        let supersedes = match self.authenticator.of_browser(headers).await {
            Ok(before) => before,
            // While nobody knows whose session this browser had, the code is not spent.
            Err(error) => return Finished::refused(error.into(), return_to),
        };
        // Waited for here, and not in the task: for a browser that goes away meanwhile, Entra is not asked.
        let turn = match self.entra.turn_to_redeem().await {
            Ok(turn) => turn,
            Err(busy) => return Finished::refused(busy.into(), return_to),
        };
        // A code can be redeemed once, so what follows must not be lost because the browser went away.
        let (sender, receiver) = oneshot::channel();
        let (this, browser) = (self.clone(), browser::name(headers));
        self.shutdown.spawn("sign-in", async move {
            let tokens = Tokens::redeem(&this.entra, &turn, &code, &attempt).await;
            // What follows asks the store alone.
            drop(turn);
            let result = match tokens {
                Ok(tokens) => this.begin_session(tokens, attempt.step_up, supersedes, &browser).await,
                Err(error) => Err(error),
            };
            // When nobody waits any more the session stands all the same, and expires unused.
            let _gone = sender.send(result);
        });
        match receiver.await.unwrap_or(Err(SignInError::Stopping)) {
            Err(error) => Finished::refused(error, return_to),
            Ok((opener, cookies)) => self.first_token(headers, opener, return_to, cookies).await,
        }
    }

    /// Begins the session of who signed in; with it come the cookies to set.
    async fn begin_session(
        &self,
        tokens: Tokens,
        stepped_up: bool,
        supersedes: Option<Opener>,
        browser: &str,
    ) -> Result<(Opener, Vec<HeaderValue>), SignInError> {
        let Tokens { who, redeemed } = tokens;
        let session = Arc::new(self.new_session(who, redeemed.home_account_id, stepped_up));
        let newer = redeemed.aks.as_ref().and_then(|aks| aks.refresh_token.clone());
        let aks = redeemed.aks.map(|aks| AksGrant {
            token: aks.aks_token,
            minted_at: aks.minted_at,
            expires_at: aks.expires_at,
            refresh_in: aks.refresh_in,
        });
        let refresh_token = newer.unwrap_or(redeemed.refresh_token);
        let grant = Grant { refresh_token, aks, granted_at: session.created_at };
        let secret = CredentialSecret::new_cookie();
        let (key, lifetime) = (secret.key(), until(session.created_at, session.expires_at));
        let cookie = Arc::new(Credential::new(
            *key.digest(),
            CredentialKind::Cookie,
            session.user.clone(),
            browser.to_owned(),
            session.created_at,
            lifetime,
            Some(self.lifetimes.cookie_idle),
        ));
        let opener = Opener { credential: cookie, session: session.clone(), key };
        self.store.begin(NewSession { opener: opener.clone(), grant, supersedes }).await?;
        tracing::info!(
            user = %session.user.oid,
            session = %session.id,
            credential = %opener.credential.id,
            // For guests: who they are at home.
            home_account_id = session.home_account_id,
            step_up = session.stepped_up,
            "signed in"
        );
        let session_cookie = cookie::set(cookie::SESSION, secret.expose(), lifetime);
        Ok((opener, vec![session_cookie, cookie::remove(cookie::SIGNED_OUT)]))
    }

    /// Asks for the first AKS token, and decides where the browser goes from here.
    async fn first_token(
        &self,
        headers: &HeaderMap,
        opener: Opener,
        return_to: String,
        mut cookies: Vec<HeaderValue>,
    ) -> Finished {
        let first_token = tokio::time::timeout(FIRST_TOKEN_WAIT, self.broker.prepare(&opener)).await;
        let fault = match first_token {
            Ok(Err(BrokerError::Entra(fault))) => Some(fault),
            _ => None,
        };
        // Entra ended the session at once: sending the browser on would send it round in a circle.
        if let Some(fault) = &fault
            && matches!(fault.class, Class::SignIn | Class::Revoked)
        {
            return Finished::refused(SignInError::Redeem(Box::new((**fault).clone())), return_to);
        }
        let mut outcome = Outcome::SignedIn;
        if !self.authenticator.stands(&opener).await {
            // Another tab of this browser has signed in, or out, meanwhile. Its answer may be there before this one: the cookie
            // of a session that has ended must not take the place of a live one's.
            cookies.clear();
        } else if let Some(fault) = fault.filter(|fault| fault.class == Class::StepUp)
            && !opener.session.stepped_up
        {
            let demand = Demand::of(&fault, &opener.session);
            // Otherwise discovery is not ready: no redirect now. The session exists; the first request answers with the
            // step-up error.
            if let Ok(to_entra) = self.to_entra(headers, return_to.clone(), Some(&demand)) {
                cookies.extend(to_entra.cookies);
                outcome = Outcome::StepUp(to_entra.location);
            }
        }
        let (credential, session) = (Some(opener.credential), Some(opener.session));
        Finished { outcome, return_to, cookies, credential, session }
    }

    fn to_entra(
        &self,
        headers: &HeaderMap,
        return_to: String,
        demand: Option<&Demand>,
    ) -> Result<ToEntra, NotReady> {
        let attempt = Attempt::new(return_to, demand.is_some(), self.clock.now());
        let signed_out = cookie::all(headers).any(|(name, _)| name == cookie::SIGNED_OUT);
        let location = self.entra.authorize_url(&AuthorizeRequest {
            state: &attempt.state,
            nonce: &attempt.nonce,
            verifier: &attempt.verifier,
            step_up: attempt.step_up,
            claims: demand.and_then(|demand| demand.claims.as_deref()),
            login_hint: demand.and_then(|demand| demand.login_hint.as_deref()),
            select_account: signed_out && demand.is_none(),
        })?;
        Ok(ToEntra { location: location.into(), cookies: attempt.cookies(headers) })
    }

    /// The demand that a sign-in of this session's user must meet. One that a step-up has failed to meet stands as a block.
    fn standing_demand(&self, session: &Session) -> Option<Demand> {
        let fault = self.broker.last_fault(session)?;
        (fault.class == Class::StepUp).then(|| Demand::of(&fault, session))
    }

    fn new_session(&self, who: SignedIn, home_account_id: Option<String>, stepped_up: bool) -> Session {
        let now = self.clock.now();
        Session {
            id: SessionId::random(),
            user: UserKey { tid: who.tid.into(), oid: who.oid.into() },
            name: who.name,
            username: who.username,
            home_account_id,
            login_hint: who.login_hint,
            sid: who.sid.as_deref().map(Digest::of),
            stepped_up,
            created_at: now,
            expires_at: after(now, self.lifetimes.session),
            places: Places::default(),
        }
    }
}

impl fmt::Debug for ToEntra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address holds the attempt's state and nonce.
        f.debug_struct("ToEntra").finish_non_exhaustive()
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignedIn => f.write_str("SignedIn"),
            // As in `ToEntra`.
            Self::StepUp(_) => f.write_str("StepUp(..)"),
            Self::Refused(error) => f.debug_tuple("Refused").field(error).finish(),
        }
    }
}

impl Demand {
    fn of(fault: &EntraFault, session: &Session) -> Self {
        Self { claims: fault.claims.clone(), login_hint: session.login_hint.clone() }
    }
}

impl Finished {
    fn refused(error: SignInError, return_to: String) -> Self {
        let outcome = Outcome::Refused(error);
        Self { outcome, return_to, cookies: Vec::new(), credential: None, session: None }
    }
}
