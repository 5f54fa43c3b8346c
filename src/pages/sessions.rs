//! Who am I, renew my access, sign out: here, everywhere, and from Entra's side.

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE};
use http::{Response, StatusCode};
use serde_json::json;

use super::{Pages, Visit, body};
use crate::audit::{Act, Outcome};
use crate::http::body::Body;
use crate::identity::Identity;
use crate::problem::{Problem, json_response, redirect};
use crate::session::{CredentialId, CredentialKind, Session};
use crate::signin::SignIn;
use crate::view::protect;

impl Pages {
    /// `GET /whoami`
    pub(super) async fn whoami(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.visitor(visit).await?;
        Ok(describe(&identity))
    }

    /// `POST /refresh`: a fresh AKS token now, after a group was joined or a role activated.
    pub(super) async fn refresh(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.visitor(visit).await?;
        self.broker.renew(identity.opener()).await?;
        let session = identity.session();
        visit.record.tell_act(&Act::AccessRenewed(session.id.as_str()), &Outcome::of(200));
        tracing::info!(user = %session.user.oid, "access renewed");
        Ok(if visit.wants_page() { self.home("#renewed") } else { describe(&identity) })
    }

    /// `POST /logout`: this session, or that of another browser of the user's; its tokens become dormant.
    pub(super) async fn logout(&self, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        self.guard(&visit)?;
        let max_bytes = self.settings.max_body_bytes;
        if let Some(id) = body::other_browser(&visit.parts.headers, visit.body, max_bytes).await? {
            let identity = self.browser(&visit).await?;
            return self.end_browser(&identity, &CredentialId::from(id.as_str()), &visit).await;
        }
        let ended = self.sign_in.sign_out(visit.headers()).await?;
        if let Some(ended) = &ended {
            visit.record.identified(&ended.credential, &ended.session);
            visit.record.tell_act(&Act::SignOut(ended.session.id.as_str()), &Outcome::of(303));
        }
        Ok(self.signed_out("signed-out", ended.as_ref().map(|ended| &*ended.session)))
    }

    async fn end_browser(
        &self,
        identity: &Identity,
        browser: &CredentialId,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Problem> {
        let user = &identity.session().user;
        let for_mounts = self.store.listed(user, CredentialKind::MountCookie).await?;
        if for_mounts.iter().any(|listed| listed.credential.id == *browser) {
            self.store.revoke(user, browser).await?;
            visit.record.tell_act(&Act::MountLeft(browser.as_str()), &Outcome::of(303));
            tracing::info!(user = %user.oid, credential = %browser, "signed out of a dashboard");
            return Ok(self.home("#dashboard-signed-out"));
        }
        let ended = self.store.end_browser(user, browser).await?.ok_or_else(Problem::not_found)?;
        visit.record.tell_act(&Act::SignOut(ended.as_str()), &Outcome::of(303));
        tracing::info!(user = %user.oid, session = %ended, "signed out from another browser");
        Ok(self.home("#browser-signed-out"))
    }

    /// `POST /logout/everywhere`: all sessions and tokens of the user, for ever.
    pub(super) async fn logout_everywhere(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser(visit).await?;
        self.sign_in.sign_out_everywhere(&identity).await?;
        visit.record.tell_act(&Act::SignOutEverywhere, &Outcome::of(303));
        Ok(self.signed_out("signed-out=everywhere", Some(identity.session())))
    }

    /// `GET /logout/frontchannel?sid=`: Entra loads this in a hidden frame; no cookie comes along, and the answer
    /// never tells whether there was a session.
    pub(super) async fn front_channel_logout(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let parameter = |wanted: &str| {
            let mut pairs = url::form_urlencoded::parse(visit.query().as_bytes());
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let (sid, issuer) = (parameter("sid"), parameter("iss"));
        if self.sign_in.front_channel(sid.as_deref(), issuer.as_deref()).await? > 0 {
            visit.record.tell_act(&Act::SignOutByEntra, &Outcome::of(200));
        }
        let mut response = Response::new(Body::empty());
        protect(response.headers_mut());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
        // The one page that may be framed, by a site that is not ours.
        headers.remove("cross-origin-resource-policy");
        Ok(response)
    }

    /// To the portal after a form. `rest`: from the `?` or `#` on, what it says there.
    pub(super) fn home(&self, rest: &str) -> Response<Body> {
        let mut response = redirect(&self.view.public_url().join(&format!("/{rest}")));
        *response.status_mut() = StatusCode::SEE_OTHER;
        response
    }

    /// To a page that says so, or to Entra's own sign-out.
    fn signed_out(&self, query: &str, session: Option<&Session>) -> Response<Body> {
        let mut response = self.home(&format!("?{query}"));
        let home = self.view.public_url().join("/");
        if self.settings.sign_out_of_entra
            && let Some(url) = self.sign_in.entra_sign_out_url(&home, session)
            && let Ok(url) = HeaderValue::from_str(url.as_str())
        {
            response.headers_mut().insert(LOCATION, url);
        }
        for cookie in SignIn::signed_out_cookies() {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }
}

/// The contract's JSON about a caller: never a token.
fn describe(identity: &Identity) -> Response<Body> {
    let (session, credential) = (identity.session(), identity.credential());
    json_response(
        StatusCode::OK,
        &json!({
            "user": {
                "oid": &*session.user.oid,
                "tid": &*session.user.tid,
                "name": session.name,
                "username": session.username,
            },
            "session": { "expires_at": whole(session.expires_at) },
            "credential": {
                "kind": credential.kind.name(),
                "id": credential.id.as_str(),
                "name": credential.name,
                "expires_at": whole(credential.expires_at),
            },
        }),
    )
}

/// RFC 3339 in UTC, whole seconds.
pub(super) fn whole(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
