//! A token for a computer without a browser: it shows a code, which its person types here (RFC 8628).
//!
//! The code is always typed, never part of an address: nobody can be led to a page that only wants a click.

use http::{Response, StatusCode};
use minijinja::context;
use serde_json::json;

use super::body::Fields;
use super::handover::{Answer, Question, client_name};
use super::{Pages, Visit};
use crate::audit::{Act, Outcome};
use crate::clock::{in_words, until};
use crate::http::body::Body;
use crate::identity::Identity;
use crate::problem::{OAuthError, Problem, json_response};
use crate::route::Page;
use crate::session::handover::{Asked, DEVICE_CODE_LIVES, POLL_INTERVAL, Poll, Way};
use crate::view::{Action, Message};

const PATH: &str = "/device";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

impl Pages {
    pub(super) async fn device(&self, page: Page, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let ways = &self.settings.handover;
        let off = || {
            let instead = match ways.loopback {
                true => "Use entrada login without --device.",
                false => "Use a kubeconfig from the portal.",
            };
            let sentence = format!("Signing a computer in with a code is turned off here. {instead}");
            Problem::turned_off("device_login_off", sentence)
        };
        match page {
            Page::DeviceCode | Page::DeviceToken if !ways.device => Err(off().turned_off_for_oauth()),
            _ if !ways.device => Err(off()),
            Page::DeviceCode => self.device_code(visit).await.map_err(Problem::for_oauth),
            Page::DeviceToken => self.device_token(visit).await.map_err(Problem::for_oauth),
            Page::AskDevice => self.ask_device(visit).await,
            Page::AnswerDevice => self.answer_device(visit).await,
            _ => self.enter_code(&visit).await,
        }
    }

    /// `POST /device/code`: the computer asks for its codes.
    async fn device_code(&self, mut visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let client = visit.record.client();
        self.quotas.admit_sign_in(client)?;
        let name = client_name(&self.fields(&mut visit).await?)?;
        let codes = self.handover.ask(&name, client).await?.ok_or_else(Problem::too_many_devices)?;
        let answer = json!({
            "device_code": codes.device_code.expose(),
            "user_code": codes.user_code,
            "verification_uri": self.view.public_url().join(PATH),
            "expires_in": DEVICE_CODE_LIVES.as_secs(),
            "interval": POLL_INTERVAL.as_secs(),
        });
        Ok(json_response(StatusCode::OK, &answer))
    }

    /// `POST /device/token`: the computer asks whether its person has answered.
    async fn device_token(&self, mut visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let fields = self.fields(&mut visit).await?;
        if fields.get("grant_type") != Some(GRANT) {
            return Err(Problem::oauth(
                OAuthError::UnsupportedGrantType,
                format!("grant_type must be {GRANT} here."),
            ));
        }
        let missing = || Problem::oauth(OAuthError::InvalidRequest, "device_code must be given, once.");
        let device_code = fields.get("device_code").ok_or_else(missing)?;
        // Before the answer is taken, which is told once.
        visit.record.can_tell()?;
        match self.handover.poll(device_code).await? {
            Poll::Ticket(ticket) => self.fetch(&visit, Way::Device, &ticket).await,
            // Nothing went wrong.
            Poll::Pending => {
                let pending = "Nobody has answered yet. Ask again in five seconds.";
                let answer = json!({ "error": "authorization_pending", "error_description": pending });
                Ok(json_response(StatusCode::BAD_REQUEST, &answer))
            }
            Poll::TooFast => Err(Problem::oauth(OAuthError::SlowDown, "Ask at most every five seconds.")),
            Poll::Refused => {
                Err(Problem::oauth(OAuthError::AccessDenied, "The request was refused in the browser."))
            }
            Poll::Expired => Err(Problem::oauth(
                OAuthError::ExpiredToken,
                "The code is unknown, was used, or is older than five minutes. Run entrada login --device again.",
            )),
        }
    }

    /// `GET /device`: a field for the code.
    async fn enter_code(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser(visit).await?;
        self.must_be_of_use(&identity).await?;
        Ok(self.code_page(&identity, StatusCode::OK))
    }

    /// `POST /device`: the question about the computer that shows the code.
    async fn ask_device(&self, mut visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let (identity, fields) = self.person(&mut visit).await?;
        let typed = fields.get("user_code").unwrap_or_default();
        let Some(asked) = self.look_for(&identity, typed).await? else {
            return Ok(self.code_page(&identity, StatusCode::BAD_REQUEST));
        };
        let age = in_words(until(asked.at, self.clock.now()));
        let facts = vec![
            ("It calls itself", asked.name.clone()),
            ("It asks from", asked.from.to_string()),
            ("It asked", format!("{} ago", age.trim_start_matches("in "))),
        ];
        let hidden = vec![("user_code", typed)];
        Ok(self.question(&identity, Question { action: "/device/answer", hidden, number: None, facts }))
    }

    /// `POST /device/answer`
    async fn answer_device(&self, mut visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let (identity, fields) = self.person(&mut visit).await?;
        let (typed, answer) = (fields.get("user_code").unwrap_or_default(), Answer::of(&fields)?);
        let Some(asked) = self.look_for(&identity, typed).await? else {
            return Ok(self.code_page(&identity, StatusCode::BAD_REQUEST));
        };
        if answer == Answer::Refuse {
            let Some(asked) = self.handover.claim(typed).await? else { return Ok(self.too_late()) };
            self.handover.answer(&asked, None).await?;
            visit.record.tell_act(&Act::HandoverRefused, &Outcome::of(200));
            return Ok(self.said("Refused", "That computer gets nothing.".to_owned()));
        }
        // The ticket first: a store that fails in between must not leave a request that nobody can answer any more.
        let left = until(self.clock.now(), asked.until);
        let (ticket, id) = self.make_ticket(&identity, &asked.name, left).await?;
        let Some(asked) = self.handover.claim(typed).await? else {
            self.store.revoke(&identity.session().user, &id).await?;
            return Ok(self.too_late());
        };
        self.handover.answer(&asked, Some(&ticket)).await?;
        visit.record.tell_act(&Act::HandoverAllowed(id.as_str()), &Outcome::of(200));
        let sentence = format!("“{}” is signed in as you in a moment. You can close this page.", asked.name);
        Ok(self.said("Allowed", sentence))
    }

    async fn person(&self, visit: &mut Visit<'_>) -> Result<(Identity, Fields), Problem> {
        let identity = self.browser_within_rate(visit).await?;
        let back = |problem: Problem| problem.on_a_page(PATH.to_owned(), Vec::new());
        self.must_be_of_use(&identity).await.map_err(back)?;
        let fields = self.fields(visit).await?;
        Ok((identity, fields))
    }

    /// What asks under a typed code. Each wrong code takes one of the user's tries.
    async fn look_for(&self, identity: &Identity, typed: &str) -> Result<Option<Asked>, Problem> {
        let user = identity.session().user.tag();
        if !self.handover.take_try(user).await? {
            tracing::warn!(user = %identity.session().user.oid, "too many wrong user codes");
            return Err(Problem::too_many_wrong_codes());
        }
        let asked = self.handover.asked(typed).await?;
        if asked.is_some() {
            self.handover.give_try_back(user).await?;
        } else {
            self.handover.note_wrong_code();
        }
        Ok(asked)
    }

    fn code_page(&self, identity: &Identity, status: StatusCode) -> Response<Body> {
        let session = identity.session();
        let page = context! {
            cluster => self.settings.cluster_name.as_str(),
            name => session.name.as_str(),
            username => session.username.as_str(),
            is_wrong => status != StatusCode::OK,
        };
        self.view.page(status, "device.html", page)
    }

    fn too_late(&self) -> Response<Body> {
        self.said("Answered already", "This request was answered a moment ago, in another window.".to_owned())
    }

    fn said(&self, title: &str, sentence: String) -> Response<Body> {
        let action = Action { label: "Open the portal", href: "/".to_owned() };
        self.view.message(StatusCode::OK, &Message { title, sentence: &sentence, details: &[], action })
    }
}
