//! A browser's way into a dashboard on a host of its own: with a one-time code from the public URL's sign-in to that host,
//! which gives it a cookie of the same session there.
//!
//! Nobody but this program ever sees a code that is still good. It stands in the address of one redirect, which no page
//! and, since service workers are refused there, no script of the dashboard sees; and whatever comes of it, the code is
//! used up before there is an answer.
//!
//! Path and query wait in a cookie of the mount's host. The fragment goes with the browser from redirect to redirect; where
//! Entra's own pages would lose it, a page of ours keeps it first.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, REFERRER_POLICY};
use http::{Response, StatusCode};
use minijinja::context;
use url::form_urlencoded::Serializer;

use super::body::Fields;
use super::login::with_cookies;
use super::{Pages, Visit};
use crate::audit::{Act, Outcome};
use crate::clock::until;
use crate::http::body::Body;
use crate::identity::{Identity, cookie};
use crate::mounts::{Entry, Mount, is_entry_id};
use crate::policy::Denied;
use crate::problem::{Problem, redirect};
use crate::route::is_top_navigation;
use crate::secret::{CredentialSecret, token_key};
use crate::session::bearer::BearerKeys;
use crate::session::handover::{self, CODE_LIVES, Redeemed, Way};
use crate::session::{Credential, CredentialKind, MountEntry, Mounted, StoreError};

const ENTER: &str = "/.entrada/enter";
/// A SHA-256 digest in base64url.
const CHALLENGE_CHARS: usize = 43;

/// What the mount's host asks the public URL for.
struct Request<'a> {
    mount: &'a Mount,
    challenge: String,
    state: String,
    step: Step,
}

/// How far the browser has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It comes from the mount's host.
    First,
    /// Our page has kept the fragment of its address.
    Go,
    /// It comes back from Entra, and is not sent there again.
    Back,
}

impl Request<'_> {
    /// The same at another step.
    fn at(&self, step: &str) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("mount", self.mount.url().origin()).append_pair("challenge", &self.challenge);
        query.append_pair("state", &self.state).append_pair(step, "1");
        format!("/login?{}", query.finish())
    }

    /// Back to the mount's host. Where no fragment was kept, the browser keeps the one that it has.
    fn location(&self, code: &CredentialSecret, fragment: Option<&str>) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("code", code.expose()).append_pair("state", &self.state);
        let fragment = fragment.map_or_else(String::new, |fragment| format!("#{fragment}"));
        self.mount.url().join(&format!("{ENTER}?{}{fragment}", query.finish()))
    }
}

impl Pages {
    /// Sends a navigation without a session on the mount's host to the sign-in.
    pub(crate) fn to_sign_in(&self, mount: &Mount, visit: &http::request::Parts) -> Response<Body> {
        let target = visit.uri.path_and_query().map_or("/", |target| target.as_str());
        let entry = Entry::new(target, self.clock.now());
        let location = entry.location(self.view.public_url(), mount.url());
        with_cookies(unreferred(redirect(&location)), entry.cookies(&visit.headers))
    }

    /// `GET /login?mount=…&challenge=…&state=…`: a code for the mount's host, by way of Entra where nobody is signed in.
    /// Nothing where it is an ordinary `/login`.
    pub(super) async fn login_for_mount(&self, visit: &Visit<'_>) -> Result<Option<Response<Body>>, Problem> {
        let fields = Fields::parse(visit.query().as_bytes());
        if !fields.has("mount") {
            return Ok(None);
        }
        let request = self.request(&fields)?;
        if !is_top_navigation(visit.parts) {
            return Err(Denied::CrossOrigin.into());
        }
        match self.browser(visit).await {
            Ok(identity) => self.code_for(&identity, &request, visit).await.map(Some),
            Err(problem) if problem.asks_to_sign_in() && request.step == Step::First => {
                let (host, state) = (request.mount.url().host(), request.state.as_str());
                let page = context! { host, state, href => request.at("go") };
                Ok(Some(self.view.page(StatusCode::OK, "mount.html", page)))
            }
            Err(problem) if problem.asks_to_sign_in() && request.step == Step::Go => {
                let to_entra = self.sign_in.begin(visit.headers(), Some(&request.at("back"))).await?;
                Ok(Some(with_cookies(redirect(&to_entra.location), to_entra.cookies)))
            }
            // A browser that keeps no cookies would go round in a circle.
            Err(problem) => Err(problem.on_a_page(request.mount.url().join("/"), Vec::new())),
        }
    }

    fn request(&self, fields: &Fields) -> Result<Request<'_>, Problem> {
        let field = |name| fields.get(name).unwrap_or_default();
        let mount = self.mounts.with_origin(field("mount")).ok_or_else(Problem::no_such_mount)?;
        let (challenge, state) = (field("challenge").to_owned(), field("state").to_owned());
        let is_url_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_whole = challenge.len() == CHALLENGE_CHARS && challenge.bytes().all(is_url_safe);
        if !is_whole || !is_entry_id(&state) {
            return Err(Problem::no_such_mount());
        }
        let step = match (fields.has("go"), fields.has("back")) {
            (_, true) => Step::Back,
            (true, false) => Step::Go,
            (false, false) => Step::First,
        };
        Ok(Request { mount, challenge, state, step })
    }

    async fn code_for(
        &self,
        identity: &Identity,
        request: &Request<'_>,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Problem> {
        self.must_be_of_use(identity).await?;
        visit.record.can_tell()?;
        let name = &identity.credential().name;
        let (ticket, id) = self.make_ticket(identity, name, CODE_LIVES).await?;
        let origin = request.mount.url().origin();
        let code = self.handover.leave(Way::Mount, &ticket, &request.challenge, origin).await?;
        visit.record.tell_act(&Act::HandoverAllowed(id.as_str()), &Outcome::of(302));
        let (fragment, removal) = cookie::fragment(visit.headers(), &request.state).unzip();
        let response = redirect(&request.location(&code, fragment.as_deref()));
        Ok(with_cookies(unreferred(response), removal.into_iter().collect()))
    }

    /// `GET /.entrada/enter?code=…&state=…` on the mount's host: the code for a cookie.
    ///
    /// # Errors
    /// What the page without a code says: where a code came to nothing, the browser is sent to that page, so that no script
    /// of the dashboard finds the code in an address.
    pub(crate) async fn enter_mount(
        &self,
        mount: &Mount,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Problem> {
        let fields = Fields::parse(visit.query().as_bytes());
        if fields.has("code") {
            let entered = self.enter_with(&fields, mount, visit).await;
            return Ok(entered.unwrap_or_else(|failed| {
                visit.record.tell_act(&Act::MountEntered(""), &failed.refusal().outcome());
                let page = if failed.is_ours() { "?unavailable" } else { "" };
                unreferred(redirect(&mount.url().join(&format!("{ENTER}{page}"))))
            }));
        }
        if fields.has("unavailable") {
            return Err(Problem::from(StoreError).on_a_page("/".to_owned(), Vec::new()));
        }
        Err(Problem::not_entered())
    }

    async fn enter_with(
        &self,
        fields: &Fields,
        mount: &Mount,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Problem> {
        let state = fields.get("state").filter(|_| is_top_navigation(visit.parts)).unwrap_or_default();
        let entry = Entry::find(visit.headers(), state, self.clock.now());
        // Without a verifier nothing fits, and the code ends as with a wrong one.
        let verifier = entry.as_ref().map_or("", Entry::verifier);
        let (code, origin) = (fields.get("code").unwrap_or_default(), mount.url().origin());
        let ticket = match self.handover.redeem(Way::Mount, code, verifier, origin).await? {
            Redeemed::Ticket(ticket) => ticket,
            Redeemed::Unknown => return Err(Problem::not_entered()),
            Redeemed::Burned(ticket) => {
                if let Ok(ticket) = self.identify_ticket(&ticket, visit).await {
                    self.discard(&ticket).await;
                }
                return Err(Problem::not_entered());
            }
        };
        let ticket = self.identify_ticket(&ticket, visit).await?;
        // A challenge that is made for no verifier at all.
        let Some(entry) = entry else {
            self.discard(&ticket).await;
            return Err(Problem::not_entered());
        };
        visit.record.can_tell()?;
        let mut cookies = vec![entry.end()];
        let has = self.authenticator.identify_at_mount(origin, visit.headers()).await;
        // Two tabs that came here at once share a cookie.
        if !has.is_ok_and(|has| has.session().id == ticket.session().id) {
            cookies.push(self.make_mount_cookie(&ticket, mount, visit).await?);
        }
        self.discard(&ticket).await;
        self.handover.note(Way::Mount, handover::Step::Fetched);
        Ok(with_cookies(unreferred(redirect(&mount.url().join(entry.target()))), cookies))
    }

    async fn identify_ticket(
        &self,
        ticket: &CredentialSecret,
        visit: &Visit<'_>,
    ) -> Result<Identity, Problem> {
        let key = token_key(ticket.expose()).ok_or_else(Problem::not_entered)?;
        let identity = self.authenticator.identify_by(&key).await?;
        visit.record.identified(identity.credential(), identity.session());
        Ok(identity)
    }

    /// The cookie of the mount's host, and beside it the record of the bearer that is derived from it.
    async fn make_mount_cookie(
        &self,
        ticket: &Identity,
        mount: &Mount,
        visit: &Visit<'_>,
    ) -> Result<HeaderValue, Problem> {
        let (session, now, secret) = (ticket.session(), self.clock.now(), CredentialSecret::new_cookie());
        let (key, lifetime) = (secret.key(), until(now, session.expires_at));
        let origin: Arc<str> = mount.url().origin().into();
        let new = |key: &crate::secret::CredentialKey, kind, name: &str| {
            let (user, idle) = (session.user.clone(), Some(self.settings.lifetimes.cookie_idle));
            Credential::new(*key.digest(), kind, user, name.to_owned(), now, lifetime, idle)
        };
        let mut cookie = new(&key, CredentialKind::MountCookie, &ticket.credential().name);
        cookie.mounted = Some(Mounted { origin: origin.clone(), cookie: None, proof: None });
        let keys = BearerKeys::of(&key);
        let mut bearer = new(&keys.key(), CredentialKind::Bearer, mount.url().host());
        let proof = Some(keys.proof().clone());
        bearer.mounted = Some(Mounted { origin, cookie: Some(cookie.id.clone()), proof });
        let id = cookie.id.clone();
        let entry = MountEntry { cookie: (cookie.into(), key), bearer: (bearer.into(), keys.key()) };
        self.store.enter_mount(ticket.opener(), &entry).await?;
        visit.record.tell_act(&Act::MountEntered(id.as_str()), &Outcome::of(302));
        tracing::info!(user = %session.user.oid, credential = %id, mount = mount.url().host(), "entered a dashboard");
        Ok(cookie::set(cookie::SESSION, secret.expose(), lifetime.max(Duration::from_secs(1))))
    }
}

/// The address that leads there holds a code.
fn unreferred(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
