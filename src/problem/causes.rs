//! Every error that a request can meet, as a [`Problem`].

use http::StatusCode;

use super::{Help, Problem, Side};
use crate::broker::{BrokerError, RenewError};
use crate::clock::in_words;
use crate::entra::{Class, EntraFault, NotReady};
use crate::identity::Refused;
use crate::policy::Denied;
use crate::session::{AddTokenError, CredentialKind, MAX_TOKENS_PER_USER, StoreError};
use crate::signin::SignInError;

/// client-go repeats up to ten times and waits this long each time: short, and only where waiting helps.
pub(super) const SOON: u32 = 1;
pub(super) const SHORTLY: u32 = 5;
const DASHBOARD_ENDED: &str = "What the dashboard was given has ended. Reload the dashboard.";
const MANY_SIGN_IN: &str = "Many people sign in right now. Reload this page in a moment.";

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let problem = |reason, sentence| Self {
            help: Help::SignIn,
            log: refused.to_string(),
            ..Self::new(StatusCode::UNAUTHORIZED, reason, Side::Client, sentence)
        };
        match refused {
            Refused::NotPresented => problem("no_credential", "You are not signed in."),
            Refused::Unknown(CredentialKind::Token) => {
                problem("unknown_token", "This token is unknown or was revoked.")
            }
            Refused::Unknown(CredentialKind::Cookie | CredentialKind::MountCookie) => {
                problem("unknown_cookie", "Your sign-in has ended.")
            }
            Refused::Unknown(CredentialKind::Bearer) => problem("unknown_token", DASHBOARD_ENDED),
            Refused::Expired(CredentialKind::Token) => problem("expired_token", "This token has expired."),
            Refused::Expired(CredentialKind::Cookie | CredentialKind::MountCookie) => {
                problem("expired_cookie", "Your sign-in has ended.")
            }
            Refused::Expired(CredentialKind::Bearer) => problem("expired_token", DASHBOARD_ENDED),
            Refused::Dormant => problem("session_ended", "Your sign-in has ended."),
            Refused::Twice => Self::new(
                StatusCode::BAD_REQUEST,
                "two_authorizations",
                Side::Client,
                "The request has two Authorization headers.",
            ),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let (reason, sentence) = match denied {
            Denied::CrossOrigin => (
                "cross_origin",
                "Your browser sign-in is not accepted for a request that another site may have started.",
            ),
            Denied::ProxyByCookie => (
                "proxy_by_cookie",
                "Proxy paths of pods, services and nodes cannot be used with the browser sign-in. \
                 Use kubectl port-forward, a token, or a dashboard on a host of its own.",
            ),
            Denied::AmbiguousPath => (
                "ambiguous_path",
                "The path has empty, dot or encoded segments, so it can be read in more than one way.",
            ),
            Denied::ServiceWorker => {
                ("service_worker", "No service worker is served from the cluster or from a dashboard.")
            }
        };
        Self { log: denied.to_string(), ..Self::new(StatusCode::FORBIDDEN, reason, Side::Client, sentence) }
    }
}

impl From<&EntraFault> for Problem {
    fn from(fault: &EntraFault) -> Self {
        let (status, reason, side, help) = match fault.class {
            Class::SignIn | Class::Revoked => {
                (StatusCode::UNAUTHORIZED, "session_ended", Side::Client, Help::SignIn)
            }
            Class::StepUp => (StatusCode::UNAUTHORIZED, "step_up_required", Side::Client, Help::StepUp),
            Class::Blocked => (StatusCode::FORBIDDEN, "blocked_by_policy", Side::Client, Help::Portal),
            // Waiting does not help before a person has acted: no Retry-After, so that kubectl says it at once.
            Class::Admin | Class::AdminForUser => {
                (StatusCode::SERVICE_UNAVAILABLE, "administrator_required", Side::Us, Help::Portal)
            }
            Class::Transient => {
                (StatusCode::SERVICE_UNAVAILABLE, "entra_unavailable", Side::Entra, Help::None)
            }
        };
        let mut details = vec![("Correlation id", fault.correlation_id.clone())];
        details.extend(fault.code.map(|code| ("Entra's code", format!("AADSTS{code}"))));
        let sentence = match fault.class {
            // Support needs both to find the event, and kubectl shows nothing but the sentence.
            Class::Blocked | Class::Admin | Class::AdminForUser => {
                let code = fault.code.map_or_else(String::new, |code| format!("AADSTS{code}, "));
                format!("{} ({code}correlation id {})", fault.sentence, fault.correlation_id)
            }
            _ => fault.sentence.clone(),
        };
        Self {
            help,
            details,
            log: fault.to_string(),
            retry_after_seconds: (fault.class == Class::Transient).then_some(SHORTLY),
            ..Self::new(status, reason, side, sentence)
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Entra(fault) => Self::from(&*fault),
            BrokerError::SessionEnded => Refused::Dormant.into(),
            BrokerError::Store(error) => error.into(),
            BrokerError::Stopping => Self {
                retry_after_seconds: Some(SOON),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "stopping",
                    Side::Us,
                    "This replica of Entrada is stopping.",
                )
            },
        }
    }
}

impl From<RenewError> for Problem {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Failed(error) => error.into(),
            RenewError::TooSoon(wait) => Self {
                retry_after_seconds: Some(SHORTLY),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "renewed_recently",
                    Side::Client,
                    format!(
                        "Your access was renewed a moment ago. It can be renewed again {}.",
                        in_words(wait)
                    ),
                )
            },
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self {
            log: error.to_string(),
            retry_after_seconds: Some(SHORTLY),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                Side::Store,
                "The session store does not answer. You are not signed out; try again in a moment.",
            )
        }
    }
}

impl From<AddTokenError> for Problem {
    fn from(error: AddTokenError) -> Self {
        match error {
            AddTokenError::SessionGone => Refused::Dormant.into(),
            AddTokenError::Store(error) => error.into(),
            AddTokenError::TooMany => Self {
                help: Help::Portal,
                ..Self::new(
                    StatusCode::FORBIDDEN,
                    "too_many_tokens",
                    Side::Client,
                    format!("You have {MAX_TOKENS_PER_USER} tokens. Revoke some first."),
                )
            },
        }
    }
}

impl From<NotReady> for Problem {
    fn from(error: NotReady) -> Self {
        Self {
            log: error.to_string(),
            retry_after_seconds: Some(SHORTLY),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "entra_unavailable",
                Side::Entra,
                "Microsoft Entra cannot be reached yet. Try again in a moment.",
            )
        }
    }
}

impl From<&SignInError> for Problem {
    /// What goes wrong at the callback is a 400 with a link that starts anew; where the code was not spent, a 503.
    fn from(error: &SignInError) -> Self {
        let problem = |reason, side, sentence: &str| Self {
            help: Help::SignIn,
            log: error.to_string(),
            ..Self::new(StatusCode::BAD_REQUEST, reason, side, sentence)
        };
        match error {
            SignInError::NoAttempt => problem(
                "no_sign_in_attempt",
                Side::Client,
                "This sign-in was not begun in this browser, was used already, or took longer than 15 minutes.",
            ),
            SignInError::Cancelled => problem("cancelled", Side::Client, "You cancelled the sign-in."),
            SignInError::Refused(fault) => {
                let sentence = match fault.class {
                    Class::SignIn | Class::Revoked => "Microsoft Entra did not sign you in.",
                    _ => &fault.sentence,
                };
                Self {
                    details: Self::from(&**fault).details,
                    ..problem("refused_by_entra", Side::Entra, sentence)
                }
            }
            SignInError::Malformed => problem(
                "malformed_callback",
                Side::Client,
                "What came back from Microsoft Entra is incomplete.",
            ),
            SignInError::Redeem(fault) => {
                let of_fault = Self::from(&**fault);
                let sentence = match fault.class {
                    Class::SignIn | Class::Revoked => "The sign-in has expired or was used already.",
                    _ => &fault.sentence,
                };
                Self { details: of_fault.details, ..problem("code_refused", of_fault.side, sentence) }
            }
            SignInError::IdToken(_) => problem(
                "id_token_refused",
                Side::Entra,
                "The ID token from Microsoft Entra could not be verified.",
            ),
            SignInError::Store(error) => {
                Self { status: StatusCode::BAD_REQUEST, help: Help::SignIn, ..Self::from(*error) }
            }
            SignInError::Busy(_) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry_after_seconds: Some(SHORTLY),
                ..problem("sign_in_busy", Side::Entra, MANY_SIGN_IN)
            },
            SignInError::Stopping => problem("stopping", Side::Us, "Entrada is restarting."),
        }
    }
}

impl Problem {
    /// Whether it means that nobody is signed in.
    #[must_use]
    pub(crate) fn asks_to_sign_in(&self) -> bool {
        self.help == Help::SignIn && self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether it means that a sign-in, or one more, would help.
    #[must_use]
    pub(crate) fn leads_to_sign_in(&self) -> bool {
        matches!(self.help, Help::SignIn | Help::StepUp) && self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether it is no fault of the client's.
    #[must_use]
    pub(crate) fn is_ours(&self) -> bool {
        self.side != Side::Client
    }

    /// A path of ours with a method that it does not have.
    #[must_use]
    pub(crate) fn wrong_method(allow: String) -> Self {
        let sentence = format!("This path takes {allow}.");
        let new = Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", Side::Client, sentence);
        Self { allow: Some(allow.into()), ..new }
    }

    /// A body whose end could be read in two ways.
    #[must_use]
    pub(crate) fn ambiguous_framing() -> Self {
        let sentence = "The request's length or transfer encoding can be read in more than one way.";
        Self {
            closes: true,
            ..Self::new(StatusCode::BAD_REQUEST, "ambiguous_framing", Side::Client, sentence)
        }
    }

    /// Nothing under this name.
    #[must_use]
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", Side::Client, "There is nothing under this name.")
    }

    /// A page that takes a browser's cookie only.
    #[must_use]
    pub(crate) fn cookie_required() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "cookie_required",
            Side::Client,
            "This is done in the browser where you are signed in, not with a token.",
        )
    }

    /// A page of ours, called by a dashboard with what it may call the API with.
    #[must_use]
    pub(crate) fn dashboards_call_the_api() -> Self {
        let sentence = "A dashboard's access is for the Kubernetes API alone.";
        Self::new(StatusCode::FORBIDDEN, "api_only", Side::Client, sentence)
    }

    /// A body that is not what the page takes.
    #[must_use]
    pub(crate) fn bad_body(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_body", Side::Client, sentence)
    }

    /// A body larger than own pages take.
    #[must_use]
    pub(crate) fn body_too_large() -> Self {
        let sentence = "The request's body is too large for this page.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", Side::Client, sentence)
    }

    /// A body that broke off while it was read; `log` says how.
    #[must_use]
    pub(crate) fn body_unreadable(log: String) -> Self {
        let sentence = "The request's body could not be read.";
        Self { log, ..Self::new(StatusCode::BAD_REQUEST, "body_unreadable", Side::Client, sentence) }
    }

    /// A body that did not arrive in time.
    #[must_use]
    pub(crate) fn body_too_slow() -> Self {
        let sentence = "The request's body did not arrive in time.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", Side::Client, sentence)
    }

    /// An administrator's kubeconfig template failed.
    #[must_use]
    pub(crate) fn bad_template(error: &minijinja::Error) -> Self {
        let sentence = "The kubeconfig could not be made. Tell whoever runs Entrada for this cluster.";
        let new = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "bad_template", Side::Us, sentence);
        Self { log: error.to_string(), ..new }
    }

    /// Re-arming is switched off.
    #[must_use]
    pub(crate) fn rearm_off() -> Self {
        let sentence = "Dormant tokens are not armed again on this cluster. Make a new one.";
        Self::new(StatusCode::FORBIDDEN, "rearm_off", Side::Client, sentence)
    }
}
