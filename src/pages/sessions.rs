//! Who am I, renew my access, sign out: here, everywhere, and from Entra's side.

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE};
use http::{Response, StatusCode};
use serde_json::json;

use super::{Pages, Visit};
use crate::http::body::Body;
use crate::identity::{Identity, Refused, cookie};
use crate::problem::{Problem, json_response, redirect};
use crate::secret::Digest;
use crate::session::{CredentialId, CredentialKind, Ending};
use crate::view::protect;

/// How long a browser remembers that it signed out.
const SIGNED_OUT_LIVES: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

impl Pages {
    /// `GET /whoami`
    pub(super) async fn whoami(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        let identity = self.visitor(visit).await?;
        Ok(describe(&identity))
    }

    /// `POST /refresh`: a fresh AKS token now, after a group was joined or a role activated.
    pub(super) async fn refresh(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        let identity = self.visitor(visit).await?;
        self.broker.renew(identity.session()).await?;
        tracing::info!(user = %identity.session().user.oid, "access renewed");
        Ok(if visit.wants_page() { self.home("#renewed") } else { describe(&identity) })
    }

    /// `POST /logout`: this session; its tokens become dormant.
    pub(super) async fn logout(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        self.guard(&visit.parts)?;
        // Who is signed out already is where they wanted to be.
        let identity = match self.authenticator.identify(visit.headers(), visit.client).await {
            Ok(identity) => Some(identity).filter(Identity::is_cookie),
            // Nobody is told that they are signed out while their session may live.
            Err(Refused::Store(error)) => return Err(error.into()),
            Err(_) => None,
        };
        if let Some(identity) = &identity {
            let session = &identity.session().id;
            let ended = self.store.end_session(session, Ending::Natural).await?;
            self.cut(identity, &ended, "signed out");
        }
        Ok(self.signed_out(identity.as_ref()))
    }

    /// `POST /logout/everywhere`: all sessions and tokens of the user, for ever.
    pub(super) async fn logout_everywhere(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        let identity = self.browser(visit).await?;
        let ended = self.store.end_user(&identity.session().user).await?;
        self.cut(&identity, &ended, "signed out everywhere");
        Ok(self.signed_out(Some(&identity)))
    }

    /// `GET /logout/frontchannel?sid=`: Entra loads this in a hidden frame; no cookie comes along, and the answer
    /// never tells whether there was a session.
    pub(super) async fn front_channel_logout(&self, visit: &Visit) -> Result<Response<Body>, Problem> {
        let parameter = |wanted: &str| {
            let mut pairs = url::form_urlencoded::parse(visit.query().as_bytes());
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let is_ours = parameter("iss").is_none_or(|issuer| self.sign_in.entra.is_issuer(&issuer));
        if let Some(sid) = parameter("sid").filter(|_| is_ours) {
            let ended = self.store.end_by_sid(&Digest::of(&sid)).await?;
            self.streams.end(&ended);
            if !ended.is_empty() {
                tracing::info!(ended = ended.len(), "front-channel sign-out");
            }
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

    /// To the portal after a form. `fragment`: what it shows there, from the `#` on.
    pub(super) fn home(&self, fragment: &str) -> Response<Body> {
        let mut response = redirect(&self.view.public_url().join(&format!("/{fragment}")));
        *response.status_mut() = StatusCode::SEE_OTHER;
        response
    }

    /// Home, or by way of Entra's own sign-out.
    fn signed_out(&self, identity: Option<&Identity>) -> Response<Body> {
        let mut response = self.home("");
        let hint = identity.and_then(|identity| identity.session().login_hint.clone());
        let home = self.view.public_url().join("/");
        if self.sign_out_of_entra
            && let Some(url) = self.sign_in.entra.end_session_url(&home, hint.as_deref())
            && let Ok(url) = HeaderValue::from_str(url.as_str())
        {
            response.headers_mut().insert(LOCATION, url);
        }
        let headers = response.headers_mut();
        headers.append(SET_COOKIE, cookie::remove(cookie::SESSION));
        headers.append(SET_COOKIE, cookie::set(cookie::SIGNED_OUT, "1", SIGNED_OUT_LIVES));
        response
    }

    fn cut(&self, identity: &Identity, ended: &[CredentialId], what: &str) {
        self.streams.end(ended);
        let session = identity.session();
        tracing::info!(user = %session.user.oid, session = %session.id, ended = ended.len(), "{what}");
    }
}

/// The contract's JSON about a caller: never a token.
fn describe(identity: &Identity) -> Response<Body> {
    let (session, credential) = (identity.session(), identity.credential());
    let kind = match credential.kind {
        CredentialKind::Cookie => "cookie",
        CredentialKind::Token => "token",
    };
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
                "kind": kind,
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
