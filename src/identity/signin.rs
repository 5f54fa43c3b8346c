//! The sign-in flow: to Entra with a fresh attempt, back with a code, and a session at the end.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use thiserror::Error;
use tokio::sync::oneshot;

use super::attempt::Attempt;
use super::{Authenticator, cookie};
use crate::clock::{Clock, after, until};
use crate::config::Lifetimes;
use crate::entra::{AuthorizeRequest, Entra, EntraFault, IdTokenError, NotReady, SignedIn};
use crate::metrics::Metrics;
use crate::secret::{AttemptSecret, AuthorizationCode, CredentialSecret, Digest};
use crate::session::{
    Credential, CredentialKind, Grant, MemoryStore, Session, SessionId, StoreError, UserKey,
};
use crate::shutdown::Shutdown;
use crate::streams::Streams;

/// The user declined to consent.
const DECLINED: u32 = 65004;

/// What a policy demanded, to be met interactively.
#[derive(Clone, Debug, Default)]
pub struct StepUp {
    /// The claims challenge, as Entra gave it.
    pub claims: Option<String>,
    /// Whom it concerns.
    pub login_hint: Option<String>,
}

/// Where to send the browser, and the cookies to set on the way.
#[derive(Debug)]
pub struct Begun {
    /// Entra's authorization endpoint with all parameters.
    pub location: String,
    /// `Set-Cookie` values.
    pub cookies: Vec<HeaderValue>,
}

/// A sign-in that succeeded.
#[derive(Debug)]
pub struct Completed {
    /// The new session.
    pub session: Arc<Session>,
    /// Where the user wanted to go.
    pub return_to: String,
    /// `Set-Cookie` values, the session's first.
    pub cookies: Vec<HeaderValue>,
}

/// What became of a callback.
#[derive(Debug)]
pub struct Outcome {
    /// Ends the attempt, whatever became of it: a state is used once.
    pub spent: Option<HeaderValue>,
    /// Where the user wanted to go, as far as that is known.
    pub return_to: String,
    /// The session, or why there is none.
    pub result: Result<Completed, SignInError>,
}

/// The parameters with which Entra sends the browser back.
#[derive(Debug, Default)]
pub struct CallbackQuery {
    code: Option<AuthorizationCode>,
    state: Option<AttemptSecret>,
    error: Option<String>,
    error_subcode: String,
    error_description: String,
}

/// Why a callback brought no session.
#[derive(Debug, Error)]
pub enum SignInError {
    /// No attempt of this browser: foreign, used, forgotten or too old.
    #[error("this browser has no open sign-in attempt for the state")]
    NoAttempt,
    /// The user turned back at Entra.
    #[error("the user cancelled the sign-in")]
    Cancelled,
    /// Entra refused, in the redirect.
    #[error("Entra sent the browser back: {0}")]
    Refused(EntraFault),
    /// Neither a code nor an error.
    #[error("the callback holds neither a code nor an error")]
    Malformed,
    /// The code was not redeemed.
    #[error("the code was not redeemed: {0}")]
    Redeem(EntraFault),
    /// The ID token was not accepted.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task that did it was ended by the process's stop.
    #[error("the process is stopping")]
    Stopping,
}

/// Everything that a sign-in needs.
#[derive(Debug)]
pub struct SignIn {
    /// The tenant.
    pub entra: Arc<Entra>,
    /// Where the session goes.
    pub store: Arc<MemoryStore>,
    /// Whose streams end when a session is superseded.
    pub streams: Streams,
    /// Finds the session that the same browser had before.
    pub authenticator: Authenticator,
    /// Time.
    pub clock: Clock,
    /// How long sessions and cookies live.
    pub lifetimes: Lifetimes,
    /// Tracks the redemption, which finishes also when the browser leaves.
    pub shutdown: Shutdown,
    /// Counts outcomes.
    pub metrics: Arc<Metrics>,
}

impl CallbackQuery {
    /// Parses the query. A parameter that stands twice is taken as malformed.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        let mut twice = false;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match name.as_ref() {
                "code" => twice |= parsed.code.replace(AuthorizationCode::new(value)).is_some(),
                "state" => twice |= parsed.state.replace(AttemptSecret::new(value)).is_some(),
                "error" => twice |= parsed.error.replace(value).is_some(),
                "error_subcode" => parsed.error_subcode = value,
                "error_description" => parsed.error_description = value,
                _ => {}
            }
        }
        if twice {
            return Self { state: parsed.state, ..Self::default() };
        }
        parsed
    }
}

impl SignIn {
    /// Begins an attempt.
    ///
    /// # Errors
    /// While Entra's discovery has not succeeded.
    pub fn begin(
        &self,
        headers: &HeaderMap,
        return_to: String,
        step_up: Option<&StepUp>,
    ) -> Result<Begun, NotReady> {
        let attempt = Attempt::new(return_to, step_up.is_some(), self.clock.now());
        let signed_out = cookie::all(headers).any(|(name, _)| name == cookie::SIGNED_OUT);
        let location = self.entra.authorize_url(&AuthorizeRequest {
            state: &attempt.state,
            nonce: &attempt.nonce,
            verifier: &attempt.verifier,
            step_up: attempt.step_up,
            claims: step_up.and_then(|demand| demand.claims.as_deref()),
            login_hint: step_up.and_then(|demand| demand.login_hint.as_deref()),
            select_account: signed_out && step_up.is_none(),
        })?;
        Ok(Begun { location: location.into(), cookies: attempt.cookies(headers) })
    }

    /// Completes an attempt: redeems the code, verifies who signed in, begins the session.
    pub async fn complete(
        self: &Arc<Self>,
        query: CallbackQuery,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Outcome {
        let now = self.clock.now();
        let attempt = query.state.as_ref().and_then(|state| Attempt::find(headers, state, now));
        let outcome = match attempt {
            None => {
                let result = Err(SignInError::NoAttempt);
                Outcome { spent: None, return_to: "/".to_owned(), result }
            }
            Some(attempt) => {
                let (spent, return_to) = (Some(attempt.end()), attempt.return_to.clone());
                Outcome { spent, return_to, result: self.answer(attempt, query, headers, client).await }
            }
        };
        let label = if outcome.result.is_ok() { "completed" } else { "refused" };
        self.metrics.sign_ins.with_label_values(&[label]).inc();
        outcome
    }

    async fn answer(
        self: &Arc<Self>,
        attempt: Attempt,
        query: CallbackQuery,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<Completed, SignInError> {
        if let Some(error) = query.error {
            let fault = self.entra.read_redirect(&error, &query.error_description);
            let cancelled = query.error_subcode == "cancel" || fault.code == Some(DECLINED);
            return Err(if cancelled { SignInError::Cancelled } else { SignInError::Refused(fault) });
        }
        let code = query.code.ok_or(SignInError::Malformed)?;
        let before = self.authenticator.identify(headers, client).await.ok();
        let supersedes = before.filter(super::Identity::is_cookie).map(|old| old.session().id.clone());
        self.finish_in_task(attempt, code, supersedes).await
    }

    /// A code can be redeemed once, so what follows must not be lost because the browser went away.
    async fn finish_in_task(
        self: &Arc<Self>,
        attempt: Attempt,
        code: AuthorizationCode,
        supersedes: Option<SessionId>,
    ) -> Result<Completed, SignInError> {
        let (sender, receiver) = oneshot::channel();
        let this = self.clone();
        self.shutdown.spawn("sign-in", async move {
            let result = this.finish(&attempt, &code, supersedes.as_ref()).await;
            // When nobody waits any more the session stands all the same and expires unused.
            let _gone = sender.send(result);
        });
        receiver.await.unwrap_or(Err(SignInError::Stopping))
    }

    async fn finish(
        &self,
        attempt: &Attempt,
        code: &AuthorizationCode,
        supersedes: Option<&SessionId>,
    ) -> Result<Completed, SignInError> {
        let redeemed = self.entra.redeem_code(code, &attempt.verifier, attempt.step_up).await;
        let redeemed = redeemed.map_err(SignInError::Redeem)?;
        let signed_in = self.entra.verify_id_token(&redeemed.id_token, &attempt.nonce).await?;
        let session = Arc::new(self.session(signed_in, redeemed.home_account_id, attempt.step_up));
        let grant = Grant {
            refresh_token: redeemed
                .aks
                .as_ref()
                .and_then(|aks| aks.refresh_token.clone())
                .unwrap_or(redeemed.refresh_token),
            aks: redeemed.aks.map(Arc::new),
            granted_at: session.created_at,
        };
        let secret = CredentialSecret::new_cookie();
        let lifetime = until(session.created_at, session.expires_at);
        let credential = Arc::new(Credential::new(
            secret.digest(),
            CredentialKind::Cookie,
            session.user.clone(),
            "browser".to_owned(),
            session.created_at,
            lifetime,
            Some(self.lifetimes.cookie_idle),
        ));
        let ended = self.store.begin(session.clone(), grant, credential.clone(), supersedes).await?;
        self.streams.end(&ended);
        tracing::info!(
            user = %session.user.oid,
            session = %session.id,
            credential = %credential.id,
            step_up = session.stepped_up,
            "signed in"
        );
        let cookies =
            vec![cookie::set(cookie::SESSION, secret.expose(), lifetime), cookie::remove(cookie::SIGNED_OUT)];
        Ok(Completed { session, return_to: attempt.return_to.clone(), cookies })
    }

    fn session(&self, who: SignedIn, home_account_id: Option<String>, stepped_up: bool) -> Session {
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
        }
    }
}
