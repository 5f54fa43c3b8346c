//! What both ways of handing a token over to a computer share.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Response, StatusCode};
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;
use serde_json::json;

use super::body::{self, Fields};
use super::sessions::whole;
use super::tokens::Fresh;
use super::{Pages, Visit};
use crate::audit::{Act, Outcome};
use crate::clock::in_words;
use crate::http::body::Body;
use crate::identity::{Identity, Refused};
use crate::problem::{OAuthError, Problem, json_response};
use crate::secret::{CredentialSecret, token_key};
use crate::session::handover::{Step, Way};
use crate::session::{Credential, CredentialId, CredentialKind};

/// Forms and their answers are short.
const MAX_FORM_BYTES: usize = 4 * 1024;
const MAX_NAME_CHARS: usize = 64;

/// What a person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    Refuse,
}

/// The page that asks a person.
#[derive(Serialize)]
pub(super) struct Question<'a> {
    /// Where the answer goes.
    pub(super) action: &'static str,
    /// What goes there with it.
    pub(super) hidden: Vec<(&'static str, &'a str)>,
    /// The number that the terminal shows, too.
    pub(super) number: Option<String>,
    /// What the computer calls itself, and from where and when it asked.
    pub(super) facts: Vec<(&'static str, String)>,
}

impl Answer {
    pub(super) fn of(fields: &Fields) -> Result<Self, Problem> {
        match fields.get("answer") {
            Some("allow") => Ok(Self::Allow),
            Some("refuse") => Ok(Self::Refuse),
            _ => Err(Problem::bad_handover("The answer must be allow or refuse.")),
        }
    }
}

impl Pages {
    pub(super) async fn fields(&self, visit: &mut Visit<'_>) -> Result<Fields, Problem> {
        let max_bytes = self.settings.max_body_bytes.min(MAX_FORM_BYTES);
        body::fields(&visit.parts.headers, visit.body, max_bytes).await
    }

    /// Asks the visitor.
    pub(super) fn question(&self, identity: &Identity, question: Question<'_>) -> Response<Body> {
        let session = identity.session();
        let lifetime = in_words(self.settings.handover.token_lifetime);
        let page = context! {
            cluster => self.settings.cluster_name.as_str(),
            name => session.name.as_str(),
            username => session.username.as_str(),
            lifetime => lifetime.trim_start_matches("in "),
            question => Serde(question),
        };
        self.view.page(StatusCode::OK, "handover.html", page)
    }

    /// The visitor's session must be of use: a computer would wait for a token that opens nothing, and a dashboard show
    /// nothing but errors. Who comes back from the step-up comes back to where they were.
    pub(crate) async fn must_be_of_use(&self, identity: &Identity) -> Result<(), Problem> {
        let demanded = self.broker.demanded_of_its_user(identity.opener()).await;
        demanded.map_or(Ok(()), |fault| Err(Problem::from(&*fault)))
    }

    /// Makes the ticket that waits for a computer of this name.
    pub(super) async fn make_ticket(
        &self,
        identity: &Identity,
        name: &str,
        lives: Duration,
    ) -> Result<(CredentialSecret, CredentialId), Problem> {
        let (user, secret) = (identity.session().user.clone(), CredentialSecret::new_token());
        let (key, kind, now) = (secret.key(), CredentialKind::Token, self.clock.now());
        let ticket = Credential::new(*key.digest(), kind, user, name.to_owned(), now, lives, None);
        let id = ticket.id.clone();
        self.store.add_token(identity.opener(), ticket.into(), &key).await?;
        Ok((secret, id))
    }

    /// The computer exchanges its ticket for a token of its own.
    pub(super) async fn fetch(
        &self,
        visit: &Visit<'_>,
        way: Way,
        ticket: &CredentialSecret,
    ) -> Result<Response<Body>, Problem> {
        let ended = || {
            let sentence = "The sign-in that allowed this has ended. Run entrada login again.";
            Problem::oauth(OAuthError::InvalidGrant, sentence)
        };
        let key = token_key(ticket.expose()).ok_or_else(ended)?;
        let identity = self.authenticator.identify_by(&key).await.map_err(|refused| match refused {
            Refused::Store(error) => error.into(),
            _ => ended(),
        })?;
        visit.record.identified(identity.credential(), identity.session());
        let name = identity.credential().name.clone();
        let lifetime = self.settings.handover.token_lifetime;
        let fresh = self.add_token(&identity, name, lifetime, true).await?;
        visit.record.tell_act(&Act::TokenMade(&fresh.id), &Outcome::of(200));
        self.handover.note(way, Step::Fetched);
        self.discard(&identity).await;
        Ok(self.handed_over(&identity, &fresh))
    }

    /// Ends a ticket that was burned, or has done its work. One that stays ends by itself within minutes.
    pub(super) async fn discard(&self, ticket: &Identity) {
        let user = &ticket.session().user;
        if let Err(error) = self.store.revoke(user, &ticket.credential().id).await {
            tracing::info!(%error, "a ticket of a hand-over could not be ended; it ends by itself");
        }
    }

    /// What the computer gets.
    pub(super) fn handed_over(&self, identity: &Identity, fresh: &Fresh) -> Response<Body> {
        let session = identity.session();
        let ca = self.settings.public_ca_pem.as_ref().map(|pem| STANDARD.encode(pem));
        let answer = json!({
            "id": fresh.id,
            "name": fresh.name,
            "token": fresh.token,
            "expires_at": fresh.expires_at,
            "user": {
                "oid": &*session.user.oid,
                "tid": &*session.user.tid,
                "name": session.name,
                "username": session.username,
            },
            "session_expires_at": whole(session.expires_at),
            "cluster_name": self.settings.cluster_name,
            "certificate_authority_data": ca,
        });
        json_response(StatusCode::OK, &answer)
    }
}

/// What the computer calls itself. It is shown to a person, who must not be misled by what it is made of.
pub(super) fn client_name(fields: &Fields) -> Result<String, Problem> {
    let name = fields.get("client_name").unwrap_or("computer").trim();
    let is_printable = |c: char| !c.is_control() && !steers_text(c);
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_printable) {
        return Err(Problem::bad_handover("client_name must have 1 to 64 printable characters."));
    }
    Ok(name.to_owned())
}

/// Invisible characters, and those that turn the direction of text around.
fn steers_text(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
