//! Proxy tokens: made, listed, armed, revoked. Only the browser's cookie may do that.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::body::{self, TokenRequest};
use super::sessions::whole;
use super::{Pages, Visit};
use crate::audit::{Act, Outcome};
use crate::http::body::Body;
use crate::identity::Identity;
use crate::problem::{Problem, json_response};
use crate::secret::CredentialSecret;
use crate::session::{self, Arming, Credential, CredentialId, CredentialKind};
use crate::view::Moment;

/// A token that was just made; its secret is shown once.
#[derive(Serialize)]
pub(super) struct Fresh {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) token: String,
    pub(super) expires_at: String,
    /// The same, for pages.
    #[serde(skip)]
    pub(super) ends: Timestamp,
}

/// A token in the contract's JSON.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    name: String,
    state: &'static str,
    created_at: String,
    last_used_at: Option<String>,
    expires_at: String,
}

/// A token or a browser as the portal shows it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    id: String,
    name: String,
    /// Of a browser's cookie for a mounted dashboard: the host.
    mount: Option<String>,
    state: &'static str,
    is_this_browser: bool,
    #[serde(skip)]
    made_at: Timestamp,
    made: Moment,
    last_used: Option<Moment>,
    from: Option<String>,
    ends: Moment,
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token.
        f.debug_struct("Fresh").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Row {
    pub(super) fn is_dormant(&self) -> bool {
        self.state == "dormant"
    }
}

impl Pages {
    /// `GET /tokens`
    pub(super) async fn list_tokens(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser(visit).await?;
        self.tokens_json(&identity).await
    }

    /// `POST /tokens`
    pub(super) async fn create_token(&self, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser(&visit).await?;
        let wants_page = visit.wants_page();
        let request =
            body::token_request(&visit.parts.headers, visit.body, self.settings.max_body_bytes).await?;
        if request.deletes {
            return self.revoke_all(&identity, &visit).await;
        }
        visit.record.can_tell()?;
        self.quotas.admit_visit(&identity).await?;
        let fresh = self.make_token(&identity, &request, "token").await?;
        visit.record.tell_act(&Act::TokenMade(&fresh.id), &Outcome::of(201));
        if wants_page {
            return self.portal_page(&identity, &visit, Some(fresh)).await;
        }
        Ok(json_response(StatusCode::CREATED, &json!(fresh)))
    }

    /// `DELETE /tokens/{id}`, or a form that stands for it.
    pub(super) async fn revoke_token(&self, id: &str, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser(&visit).await?;
        let is_form = visit.parts.method == Method::POST;
        if is_form
            && !body::says_delete(&visit.parts.headers, visit.body, self.settings.max_body_bytes).await?
        {
            return Err(Problem::wrong_method("DELETE".to_owned()));
        }
        let user = &identity.session().user;
        if !self.store.revoke(user, &CredentialId::from(id)).await? {
            return Err(Problem::not_found());
        }
        visit.record.tell_act(&Act::TokenRevoked(id), &Outcome::of(204));
        tracing::info!(user = %user.oid, credential = id, "token revoked");
        if is_form {
            return Ok(self.home("#revoked"));
        }
        let mut response = json_response(StatusCode::NO_CONTENT, &json!(null));
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(http::header::CONTENT_TYPE);
        Ok(response)
    }

    /// `POST /tokens` by a form that stands for deleting all of them.
    async fn revoke_all(&self, identity: &Identity, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let user = &identity.session().user;
        let failed = |act: &Act<'_>, error| {
            let problem = Problem::from(error);
            visit.record.tell_act(act, &problem.refusal().outcome());
            problem
        };
        let listed = self.store.listed(user, CredentialKind::Token).await;
        for token in listed.map_err(|error| failed(&Act::TokenRevoked(""), error))? {
            let id = &token.credential.id;
            let act = Act::TokenRevoked(id.as_str());
            if self.store.revoke(user, id).await.map_err(|error| failed(&act, error))? {
                visit.record.tell_act(&act, &Outcome::of(303));
                tracing::info!(user = %user.oid, credential = %id, "token revoked");
            }
        }
        Ok(self.home("#revoked"))
    }

    /// `POST /tokens/arm`: dormant tokens work again, with this session.
    pub(super) async fn arm_tokens(&self, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser_within_rate(&visit).await?;
        if !self.settings.rearm {
            return Err(Problem::rearm_off());
        }
        let wants_page = visit.wants_page();
        let request =
            body::arm_request(&visit.parts.headers, visit.body, self.settings.max_body_bytes).await?;
        let ids: Option<HashSet<String>> = request.ids.map(|ids| ids.into_iter().collect());
        let session = identity.session();
        let now = self.clock.now();
        let tokens = self.store.listed(&session.user, CredentialKind::Token).await?;
        let is_wanted = |found: &&session::Listed| {
            let named = ids.as_ref().is_none_or(|ids| ids.contains(found.credential.id.as_str()));
            named && !self.works(found, now)
        };
        let arming = |found: &session::Listed| Arming {
            token: found.credential.id.clone(),
            had: found.session.as_ref().map(|session| session.id.clone()),
        };
        let dormant: Vec<Arming> = tokens.iter().filter(is_wanted).map(arming).collect();
        // Not those that have expired, or were changed meanwhile.
        for armed in self.store.arm(identity.opener(), &dormant, now).await? {
            visit.record.tell_act(&Act::TokenArmed(armed.as_str()), &Outcome::of(200));
        }
        tracing::info!(user = %session.user.oid, session = %session.id, "dormant tokens armed");
        if wants_page { Ok(self.home("#armed")) } else { self.tokens_json(&identity).await }
    }

    pub(super) async fn make_token(
        &self,
        identity: &Identity,
        request: &TokenRequest,
        default_name: &str,
    ) -> Result<Fresh, Problem> {
        let name = request.name(default_name)?;
        let lifetime = request.lifetime(self.settings.lifetimes.token)?;
        self.add_token(identity, name, lifetime, false).await
    }

    /// `renewable`: its holder may have it replaced by a fresh one.
    pub(super) async fn add_token(
        &self,
        identity: &Identity,
        name: String,
        lifetime: Duration,
        renewable: bool,
    ) -> Result<Fresh, Problem> {
        let (user, secret) = (identity.session().user.clone(), CredentialSecret::new_token());
        let (key, kind, now) = (secret.key(), CredentialKind::Token, self.clock.now());
        let credential = Credential::new(*key.digest(), kind, user, name, now, lifetime, None);
        let credential = Arc::new(Credential { renewable, ..credential });
        self.store.add_token(identity.opener(), credential.clone(), &key).await?;
        tracing::info!(user = %credential.user.oid, credential = %credential.id, "token created");
        Ok(Fresh {
            id: credential.id.to_string(),
            name: credential.name.clone(),
            token: secret.expose().to_owned(),
            expires_at: whole(credential.expires_at),
            ends: credential.expires_at,
        })
    }

    /// The visitor's tokens or browsers that are not over, oldest first.
    pub(super) async fn listed(
        &self,
        identity: &Identity,
        kind: CredentialKind,
    ) -> Result<Vec<Row>, Problem> {
        let now = self.clock.now();
        let listed = self.store.listed(&identity.session().user, kind).await?;
        let live = listed.iter().filter(|found| {
            // A cookie without a session opens nothing; a token is dormant.
            let is_open = kind == CredentialKind::Token || self.works(found, now);
            is_open && !found.credential.is_over(found.last_use, now)
        });
        let row = |found: &session::Listed| Row {
            id: found.credential.id.to_string(),
            name: found.credential.name.clone(),
            mount: found.credential.mounted.as_ref().map(|mounted| host(&mounted.origin).to_owned()),
            made_at: found.credential.created_at,
            state: self.state(found, now),
            is_this_browser: found.credential.id == identity.credential().id,
            made: Moment::new(found.credential.created_at, now),
            last_used: found.last_use.map(|last| Moment::new(last.at, now)),
            from: found.last_use.map(|last| last.from.to_string()),
            ends: Moment::new(found.credential.expires_at, now),
        };
        Ok(live.map(row).collect())
    }

    /// The visitor's browsers, on the public URL's host and on those of dashboards, oldest first.
    pub(super) async fn browsers(&self, identity: &Identity) -> Result<Vec<Row>, Problem> {
        let mut rows = self.listed(identity, CredentialKind::Cookie).await?;
        rows.append(&mut self.listed(identity, CredentialKind::MountCookie).await?);
        rows.sort_by_key(|row| row.made_at);
        Ok(rows)
    }

    fn state(&self, token: &session::Listed, now: Timestamp) -> &'static str {
        if self.works(token, now) { "active" } else { "dormant" }
    }

    /// Whether a token works: it has a session that neither has ended nor waits for its user.
    fn works(&self, token: &session::Listed, now: Timestamp) -> bool {
        let session = token.session.as_ref().filter(|session| now < session.expires_at);
        session.is_some_and(|session| !self.broker.waits_for_its_user(session))
    }

    async fn tokens_json(&self, identity: &Identity) -> Result<Response<Body>, Problem> {
        let now = self.clock.now();
        // So that a use of a moment ago is shown, too.
        self.uses.flush().await?;
        let tokens = self.store.listed(&identity.session().user, CredentialKind::Token).await?;
        let live = tokens.iter().filter(|found| !found.credential.is_over(found.last_use, now));
        let listed = live.map(|found| Listed {
            id: found.credential.id.to_string(),
            name: found.credential.name.clone(),
            state: self.state(found, now),
            created_at: whole(found.credential.created_at),
            last_used_at: found.last_use.map(|last| whole(last.at)),
            expires_at: whole(found.credential.expires_at),
        });
        let listed: Vec<Listed> = listed.collect();
        Ok(json_response(StatusCode::OK, &json!({ "tokens": listed })))
    }
}

/// An origin's host, with its port where that is not 443.
pub(super) fn host(origin: &str) -> &str {
    origin.strip_prefix("https://").unwrap_or(origin)
}
