//! `/login` and `/callback`: to Entra and back.

use http::Response;
use http::header::{HeaderValue, SET_COOKIE};

use super::{Pages, Visit};
use crate::audit::{self, Act};
use crate::http::body::Body;
use crate::problem::{Problem, redirect};
use crate::signin::Outcome;

impl Pages {
    /// `GET /login?return_to=/path`: to Entra. With `mount`: for a dashboard on a host of its own.
    pub(super) async fn login(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        if let Some(answer) = self.login_for_mount(visit).await? {
            return Ok(answer);
        }
        let query = url::form_urlencoded::parse(visit.query().as_bytes());
        let return_to = query.into_iter().find(|(name, _)| name == "return_to").map(|(_, value)| value);
        let to_entra = self.sign_in.begin(visit.headers(), return_to.as_deref()).await?;
        Ok(with_cookies(redirect(&to_entra.location), to_entra.cookies))
    }

    /// `GET /callback`: a session and its cookie, or a page that says why not.
    pub(super) async fn callback(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let finished = self.sign_in.finish(visit.query(), visit.headers()).await;
        if let (Some(credential), Some(session)) = (&finished.credential, &finished.session) {
            visit.record.identified(credential, session);
            visit.record.tell_act(&Act::SignIn(session.id.as_str()), &audit::Outcome::of(302));
        }
        let response = match finished.outcome {
            Outcome::SignedIn => redirect(&self.view.public_url().join(&finished.return_to)),
            Outcome::StepUp(location) => redirect(&location),
            Outcome::Refused(error) => {
                return Err(Problem::from(&error).on_a_page(finished.return_to, finished.cookies));
            }
        };
        Ok(with_cookies(response, finished.cookies))
    }
}

pub(super) fn with_cookies(mut response: Response<Body>, cookies: Vec<HeaderValue>) -> Response<Body> {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
