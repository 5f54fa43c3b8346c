//! A token for the same computer's `entrada login`, by way of its browser (RFC 8252 with PKCE); and what the program does
//! with it later: have it renewed, and revoked.

mod request;

use std::time::Duration;

use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, Response, StatusCode};

use self::request::Request;
use super::handover::{Answer, Question};
use super::{Pages, Visit};
use crate::audit::{Act, Outcome};
use crate::clock::after;
use crate::http::body::Body;
use crate::identity::Refused;
use crate::problem::{OAuthError, Problem, json_response, redirect};
use crate::route::Page;
use crate::secret::token_key;
use crate::session::handover::{CODE_LIVES, Redeemed, Step, Way};

const PATH: &str = "/cli/authorize";
/// How long a token that was renewed goes on working: for what is under way with it, and for an answer that was lost.
const OLD_TOKEN_LIVES: Duration = Duration::from_secs(60);

impl Pages {
    pub(super) async fn cli(&self, page: Page, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let ways = &self.settings.handover;
        let is_on = match page {
            Page::RevokePresented => true,
            Page::RenewToken => ways.loopback || ways.device,
            _ => ways.loopback,
        };
        let off = || {
            let instead = match (&page, ways.device) {
                (Page::RenewToken, _) | (_, false) => "Use a kubeconfig from the portal.",
                (_, true) => "Use entrada login --device.",
            };
            let sentence = format!("Signing a computer in through its browser is turned off here. {instead}");
            Problem::turned_off("loopback_login_off", sentence)
        };
        match page {
            Page::RedeemCode if !is_on => Err(off().turned_off_for_oauth()),
            Page::RenewToken if !is_on => Err(off().turned_off_for_oauth()),
            _ if !is_on => Err(off()),
            Page::RedeemCode => self.redeem_code(visit).await.map_err(Problem::for_oauth),
            Page::RenewToken => self.renew_token(&visit).await.map_err(Problem::for_oauth),
            Page::RevokePresented => self.revoke_presented(&visit).await.map_err(Problem::for_oauth),
            Page::AnswerBrowser => self.answer_browser(visit).await,
            _ => self.ask_browser(&visit).await,
        }
    }

    /// `GET /cli/authorize`: the question.
    async fn ask_browser(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let request = Request::of_query(visit.query())?;
        let identity = self.browser(visit).await?;
        self.must_be_of_use(&identity).await?;
        let facts = vec![
            ("It calls itself", request.name.clone()),
            ("It asks from", visit.record.client().to_string()),
        ];
        let number = Some(request.number());
        let question = Question { action: PATH, hidden: request.fields(), number, facts };
        let mut response = self.question(&identity, question);
        let_form_lead_to(&mut response, &request.form_target());
        Ok(response)
    }

    /// `POST /cli/authorize`: the answer, which goes on to the computer.
    async fn answer_browser(&self, mut visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser_within_rate(&visit).await?;
        let fields = self.fields(&mut visit).await?;
        let (request, answer) = (Request::of(&fields)?, Answer::of(&fields)?);
        if answer == Answer::Refuse {
            visit.record.tell_act(&Act::HandoverRefused, &Outcome::of(303));
            self.handover.note(Way::Loopback, Step::Refused);
            return Ok(see_other(&request.location(&[("error", "access_denied")])));
        }
        let back = || format!("{PATH}?{}", request.query());
        self.must_be_of_use(&identity).await.map_err(|problem| problem.on_a_page(back(), Vec::new()))?;
        let (ticket, id) = self.make_ticket(&identity, &request.name, CODE_LIVES).await?;
        let code =
            self.handover.leave(Way::Loopback, &ticket, &request.challenge, &request.redirect_uri).await?;
        visit.record.tell_act(&Act::HandoverAllowed(id.as_str()), &Outcome::of(303));
        Ok(see_other(&request.location(&[("code", code.expose())])))
    }

    /// `POST /cli/token`: the code for a token.
    async fn redeem_code(&self, mut visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        self.quotas.admit_sign_in(visit.record.client())?;
        let fields = self.fields(&mut visit).await?;
        if fields.get("grant_type") != Some("authorization_code") {
            let sentence = "grant_type must be authorization_code here.";
            return Err(Problem::oauth(OAuthError::UnsupportedGrantType, sentence));
        }
        let field = |name| {
            let missing =
                || Problem::oauth(OAuthError::InvalidRequest, format!("{name} must be given, once."));
            fields.get(name).ok_or_else(missing)
        };
        let (code, redirect_uri) = (field("code")?, field("redirect_uri")?);
        // Without a verifier nothing fits, and the code ends as with a wrong one.
        let verifier = fields.get("code_verifier").unwrap_or_default();
        let refused = |sentence| Err(Problem::oauth(OAuthError::InvalidGrant, sentence));
        match self.handover.redeem(Way::Loopback, code, verifier, redirect_uri).await? {
            Redeemed::Ticket(ticket) => self.fetch(&visit, Way::Loopback, &ticket).await,
            Redeemed::Unknown => {
                refused("The code is unknown, was used, or is older than a minute. Run entrada login again.")
            }
            Redeemed::Burned(ticket) => {
                if let Some(key) = token_key(ticket.expose())
                    && let Ok(ticket) = self.authenticator.identify_by(&key).await
                {
                    visit.record.identified(ticket.credential(), ticket.session());
                    self.discard(&ticket).await;
                }
                refused("The code was made for another program. It is void now. Run entrada login again.")
            }
        }
    }

    /// `POST /cli/renew`: a fresh token of the same session, and soon the end of the presented one.
    async fn renew_token(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.visitor(visit).await?;
        if identity.is_cookie() {
            return Err(Problem::token_required());
        }
        let old = identity.credential();
        if !old.renewable {
            return Err(Problem::not_renewable());
        }
        self.must_be_of_use(&identity).await?;
        let lifetime = self.settings.handover.token_lifetime;
        let fresh = self.add_token(&identity, old.name.clone(), lifetime, true).await?;
        visit.record.tell_act(&Act::TokenRenewed(&fresh.id), &Outcome::of(200));
        let ends_at = after(self.clock.now(), OLD_TOKEN_LIVES);
        if let Err(error) = self.store.shorten(identity.opener(), ends_at).await {
            tracing::warn!(%error, credential = %old.id, "a renewed token keeps its end");
        }
        Ok(self.handed_over(&identity, &fresh))
    }

    /// `POST /cli/revoke`: the presented token ends for ever, also a dormant one.
    async fn revoke_presented(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let found = self.authenticator.presented_token(visit.headers()).await?;
        let credential = found.ok_or_else(Problem::token_required)?.credential;
        if let Ok(identity) = self.authenticator.identify(visit.headers()).await {
            visit.record.identified(identity.credential(), identity.session());
        }
        if !self.store.revoke(&credential.user, &credential.id).await? {
            return Err(Refused::Unknown(credential.kind).into());
        }
        visit.record.tell_act(&Act::TokenRevoked(credential.id.as_str()), &Outcome::of(204));
        tracing::info!(user = %credential.user.oid, credential = %credential.id, "token revoked by its holder");
        let mut response = json_response(StatusCode::NO_CONTENT, &serde_json::Value::Null);
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(http::header::CONTENT_TYPE);
        Ok(response)
    }
}

fn see_other(location: &str) -> Response<Body> {
    let mut response = redirect(location);
    *response.status_mut() = StatusCode::SEE_OTHER;
    response
}

/// Chromium holds the redirect after a form to `form-action`, too: the answer could not reach the computer otherwise.
fn let_form_lead_to(response: &mut Response<Body>, target: &str) {
    let policy = response.headers().get(CONTENT_SECURITY_POLICY).and_then(|policy| policy.to_str().ok());
    let policy =
        policy.map(|policy| policy.replace("form-action 'self'", &format!("form-action 'self' {target}")));
    if let Some(policy) = policy.and_then(|policy| HeaderValue::try_from(policy).ok()) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
}
