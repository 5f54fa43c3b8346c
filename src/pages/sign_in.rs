//! `/login` and `/callback`: to Entra and back.

use std::time::Duration;

use http::Response;
use http::header::SET_COOKIE;

use super::{Pages, Visit};
use crate::broker::BrokerError;
use crate::entra::{Class, EntraFault};
use crate::http::body::Body;
use crate::identity::attempt::safe_return_to;
use crate::identity::signin::{Begun, CallbackQuery, Completed, SignInError, StepUp};
use crate::problem::{ENTRADA_REASON, Problem, redirect};
use crate::session::Session;

/// How long a browser waits for the first AKS token; what takes longer shows at the first request instead.
const FIRST_TOKEN_WAIT: Duration = Duration::from_secs(5);

impl Pages {
    /// `GET /login?return_to=/path`: to Entra. Where a policy's demand stands against the browser's user, it goes along.
    pub(super) async fn login(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        let return_to = return_to(visit.query());
        let demand = match self.authenticator.identify(visit.headers(), visit.client).await {
            Ok(identity) if identity.is_cookie() && !identity.session().stepped_up => {
                self.standing_demand(identity.session())
            }
            _ => None,
        };
        let begun = self.sign_in.begin(visit.headers(), return_to, demand.as_ref())?;
        Ok(to_entra(&begun))
    }

    /// `GET /callback`: a session and its cookie, or a page that says why not.
    pub(super) async fn callback(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        let query = CallbackQuery::parse(visit.query());
        let outcome = self.sign_in.complete(query, visit.headers(), visit.client).await;
        let mut response = match outcome.result {
            Ok(completed) => self.welcome(visit, completed).await,
            Err(error) => self.no_session(visit, &error, &outcome.return_to),
        };
        if let Some(spent) = outcome.spent {
            response.headers_mut().append(SET_COOKIE, spent);
        }
        Ok(response)
    }

    /// The first AKS token is asked for at once: consent and policies show here and not at the sign-in itself.
    async fn welcome(&self, visit: &Visit, completed: Completed) -> Response<Body> {
        let Completed { session, return_to, cookies } = completed;
        let first_token = tokio::time::timeout(FIRST_TOKEN_WAIT, self.broker.prepare(&session)).await;
        let mut response = match first_token {
            Ok(Err(BrokerError::Entra(fault))) => match fault.class {
                Class::StepUp if !session.stepped_up => self.step_up(visit, &session, &fault, return_to),
                // A session that Entra ended at once: sending the browser on would send it round in a circle.
                Class::SignIn | Class::Revoked => {
                    return self.no_session(visit, &SignInError::Redeem((*fault).clone()), &return_to);
                }
                _ => redirect(&self.view.public_url().join(&return_to)),
            },
            _ => redirect(&self.view.public_url().join(&return_to)),
        };
        for cookie in cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }

    fn step_up(
        &self,
        visit: &Visit,
        session: &Session,
        fault: &EntraFault,
        return_to: String,
    ) -> Response<Body> {
        let demand = StepUp { claims: fault.claims.clone(), login_hint: session.login_hint.clone() };
        match self.sign_in.begin(visit.headers(), return_to.clone(), Some(&demand)) {
            Ok(begun) => to_entra(&begun),
            // The demand stands: the page that the user wanted will say so.
            Err(_) => redirect(&self.view.public_url().join(&return_to)),
        }
    }

    fn standing_demand(&self, session: &Session) -> Option<StepUp> {
        let fault = self.broker.standing_fault(session)?;
        (fault.class == Class::StepUp)
            .then(|| StepUp { claims: fault.claims.clone(), login_hint: session.login_hint.clone() })
    }

    /// Always a page: whoever comes back from Entra is a person in a browser.
    fn no_session(&self, visit: &Visit, error: &SignInError, return_to: &str) -> Response<Body> {
        let problem = Problem::from(error);
        problem.note(&visit.audit_id(), &self.sign_in.metrics);
        let mut response = problem.page(&self.view, return_to);
        let reason = http::HeaderValue::from_static(problem.reason());
        response.headers_mut().insert(ENTRADA_REASON, reason);
        response
    }
}

fn to_entra(begun: &Begun) -> Response<Body> {
    let mut response = redirect(&begun.location);
    for cookie in &begun.cookies {
        response.headers_mut().append(SET_COOKIE, cookie.clone());
    }
    response
}

fn return_to(query: &str) -> String {
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "return_to");
    safe_return_to(asked.as_ref().map(|(_, value)| value.as_ref()))
}
