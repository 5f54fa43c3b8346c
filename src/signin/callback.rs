//! What Entra sends the browser back with: its parameters, and the code redeemed for tokens of a verified user.

use thiserror::Error;

use super::attempt::Attempt;
use crate::entra::{
    Class, Entra, EntraFault, IdTokenError, Redeemed, RedemptionTurn, SignedIn, TooManyRedemptions,
};
use crate::secret::{AttemptSecret, AuthorizationCode};
use crate::session::StoreError;

/// The user declined to consent.
const DECLINED: u32 = 65004;

/// Why a callback brought no session.
#[derive(Debug, Error)]
pub(crate) enum SignInError {
    /// No attempt of this browser: foreign, used, forgotten or too old.
    #[error("this browser has no open sign-in attempt for the state")]
    NoAttempt,
    /// The user turned back at Entra.
    #[error("the user cancelled the sign-in")]
    Cancelled,
    /// Entra refused, in the redirect.
    #[error("Entra sent the browser back: {0}")]
    Refused(Box<EntraFault>),
    /// Neither a code nor an error.
    #[error("the callback holds neither a code nor an error")]
    Malformed,
    /// Others were first. The code was not spent, and the attempt stands.
    #[error(transparent)]
    Busy(#[from] TooManyRedemptions),
    /// The code was not redeemed.
    #[error("the code was not redeemed: {0}")]
    Redeem(Box<EntraFault>),
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

impl SignInError {
    /// Whether somebody has to repair something, rather than the user to do something. What a redirect says is never one,
    /// because anybody can make a redirect up.
    pub(super) fn is_a_fault(&self) -> bool {
        match self {
            Self::Redeem(fault) => {
                matches!(fault.class, Class::Admin | Class::AdminForUser | Class::Transient)
            }
            Self::IdToken(_) | Self::Store(_) | Self::Busy(_) => true,
            Self::NoAttempt | Self::Cancelled | Self::Refused(_) | Self::Malformed | Self::Stopping => false,
        }
    }
}

/// The parameters of the callback.
#[derive(Debug, Default)]
pub(super) struct CallbackQuery {
    code: Option<AuthorizationCode>,
    state: Option<AttemptSecret>,
    error: Option<String>,
    error_subcode: String,
    error_description: String,
}

/// What a code brought, and whose it is.
pub(super) struct Tokens {
    pub(super) who: SignedIn,
    pub(super) redeemed: Redeemed,
}

impl CallbackQuery {
    /// Parses the query. Where a parameter stands twice, only the state is kept, so that its attempt ends.
    pub(super) fn parse(query: &str) -> Self {
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

    pub(super) fn state(&self) -> Option<&AttemptSecret> {
        self.state.as_ref()
    }

    /// The code, or why Entra sent none.
    pub(super) fn code(self, entra: &Entra) -> Result<AuthorizationCode, SignInError> {
        let Some(error) = self.error else { return self.code.ok_or(SignInError::Malformed) };
        let fault = entra.read_redirect(&error, &self.error_description);
        let cancelled = self.error_subcode == "cancel" || fault.code == Some(DECLINED);
        Err(if cancelled { SignInError::Cancelled } else { SignInError::Refused(Box::new(fault)) })
    }
}

impl Tokens {
    /// Redeems the code of an attempt and verifies the ID token that comes for it.
    pub(super) async fn redeem(
        entra: &Entra,
        turn: &RedemptionTurn,
        code: &AuthorizationCode,
        attempt: &Attempt,
    ) -> Result<Self, SignInError> {
        let redeemed = entra.redeem_code(turn, code, &attempt.verifier, attempt.step_up).await;
        let redeemed = redeemed.map_err(|fault| SignInError::Redeem(Box::new(fault)))?;
        let who = entra.verify_id_token(&redeemed.id_token, &attempt.nonce).await?;
        Ok(Self { who, redeemed })
    }
}
