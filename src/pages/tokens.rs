//! Proxy tokens: made, listed, armed, revoked. Only the browser's cookie may do that.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::body::{self, TokenRequest};
use super::sessions::whole;
use super::{Pages, Visit};
use crate::clock::{in_words, until};
use crate::http::body::Body;
use crate::identity::Identity;
use crate::problem::{Problem, json_response};
use crate::secret::CredentialSecret;
use crate::session::{Credential, CredentialId, CredentialKind, Found, Session};

/// A token that was just made; its secret is shown once.
#[derive(Debug, Serialize)]
pub(super) struct Fresh {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) token: String,
    pub(super) expires_at: String,
}

/// A token as the portal and the list show it.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    id: String,
    name: String,
    state: &'static str,
    created_at: String,
    last_used_at: Option<String>,
    expires_at: String,
    /// What only people are shown; not part of the JSON contract.
    #[serde(flatten)]
    shown: Option<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    last_used_from: Option<String>,
    expires_in: String,
}

impl Pages {
    /// `GET /tokens`
    pub(super) async fn list_tokens(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        let identity = self.browser(visit).await?;
        self.tokens_json(&identity).await
    }

    /// `POST /tokens`
    pub(super) async fn create_token(&self, visit: Visit) -> Result<Response<Body>, Problem> {
        let identity = self.browser(&visit).await?;
        let wants_page = visit.wants_page();
        let request = body::token_request(&visit.parts.headers, visit.body, self.max_body_bytes).await?;
        let fresh = self.make_token(&identity, &request, "token").await?;
        if wants_page {
            return self.portal_page(&identity, Some(fresh)).await;
        }
        Ok(json_response(StatusCode::CREATED, &json!(fresh)))
    }

    /// `DELETE /tokens/{id}`, or a form that stands for it.
    pub(super) async fn revoke_token(&self, id: &str, visit: Visit) -> Result<Response<Body>, Problem> {
        let identity = self.browser(&visit).await?;
        let is_form = visit.parts.method == Method::POST;
        if is_form && !body::says_delete(&visit.parts.headers, visit.body, self.max_body_bytes).await? {
            return Err(Problem::wrong_method("DELETE".to_owned()));
        }
        let user = &identity.session().user;
        let Some(revoked) = self.store.revoke(user, &CredentialId::from(id)).await? else {
            return Err(Problem::not_found());
        };
        self.streams.end(std::slice::from_ref(&revoked));
        tracing::info!(user = %user.oid, credential = %revoked, "token revoked");
        if is_form {
            return Ok(self.home(""));
        }
        let mut response = json_response(StatusCode::NO_CONTENT, &json!(null));
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(http::header::CONTENT_TYPE);
        Ok(response)
    }

    /// `POST /tokens/arm`: dormant tokens work again, with this session.
    pub(super) async fn arm_tokens(&self, visit: Visit) -> Result<Response<Body>, Problem> {
        let identity = self.browser(&visit).await?;
        if !self.rearm {
            return Err(Problem::rearm_off());
        }
        let wants_page = visit.wants_page();
        let request = body::arm_request(&visit.parts.headers, visit.body, self.max_body_bytes).await?;
        let ids: Option<Vec<CredentialId>> =
            request.ids.map(|ids| ids.iter().map(|id| CredentialId::from(id.as_str())).collect());
        let session = identity.session();
        let waits = |held: &Session| self.broker.waits_for_its_user(held);
        self.store.arm(&session.id, ids.as_deref(), waits, self.clock.now()).await?;
        tracing::info!(user = %session.user.oid, session = %session.id, "dormant tokens armed");
        if wants_page { Ok(self.home("")) } else { self.tokens_json(&identity).await }
    }

    pub(super) async fn make_token(
        &self,
        identity: &Identity,
        request: &TokenRequest,
        default_name: &str,
    ) -> Result<Fresh, Problem> {
        let name = request.name(default_name)?;
        let lifetime = request.lifetime(self.lifetimes.token)?;
        let session = identity.session();
        let secret = CredentialSecret::new_token();
        let credential = Arc::new(Credential::new(
            secret.digest(),
            CredentialKind::Token,
            session.user.clone(),
            name,
            self.clock.now(),
            lifetime,
            None,
        ));
        self.store.add_token(&session.id, credential.clone()).await?;
        tracing::info!(user = %session.user.oid, credential = %credential.id, "token created");
        Ok(Fresh {
            id: credential.id.to_string(),
            name: credential.name.clone(),
            token: secret.expose().to_owned(),
            expires_at: whole(credential.expires_at),
        })
    }

    /// `for_people`: with what only the portal shows.
    pub(super) async fn listed(&self, identity: &Identity, for_people: bool) -> Result<Vec<Listed>, Problem> {
        let now = self.clock.now();
        let tokens = self.store.tokens(&identity.session().user).await?;
        let live = tokens.iter().filter(|found| !found.credential.is_over(now));
        let works = |session: &Session| !session.is_over(now) && !self.broker.waits_for_its_user(session);
        let listed = live.map(|Found { credential, session }| Listed {
            id: credential.id.to_string(),
            name: credential.name.clone(),
            state: if session.as_ref().is_some_and(|session| works(session)) { "active" } else { "dormant" },
            created_at: whole(credential.created_at),
            last_used_at: credential.last_used_at().map(whole),
            expires_at: whole(credential.expires_at),
            shown: for_people.then(|| Shown {
                last_used_from: credential.last_used_from().map(|ip| ip.to_string()),
                expires_in: in_words(until(now, credential.expires_at)),
            }),
        });
        Ok(listed.collect())
    }

    async fn tokens_json(&self, identity: &Identity) -> Result<Response<Body>, Problem> {
        let tokens = self.listed(identity, false).await?;
        Ok(json_response(StatusCode::OK, &json!({ "tokens": tokens })))
    }
}
