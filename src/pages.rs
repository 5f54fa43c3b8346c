//! Our own pages: everything that is not proxied. They render; what happens is decided in `signin`, `broker` and the
//! store.

mod assets;
mod body;
mod cli;
mod cluster;
mod device;
mod handover;
mod kubeconfig;
mod login;
mod mounts;
mod portal;
mod sessions;
mod tokens;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Response};
use hyper::body::Incoming;

use crate::audit::Act;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{HandoverConfig, Lifetimes};
use crate::http::body::Body;
use crate::http::forwarded::ForwardedHeaders;
use crate::identity::{Authenticator, Identity};
use crate::mounts::Mounts;
use crate::policy::Denied;
use crate::policy::origin::Origins;
use crate::problem::Problem;
use crate::quota::Quotas;
use crate::record::Record;
use crate::route::Page;
use crate::session::{Handover, SessionStore, Uses};
use crate::signin::SignIn;
use crate::upstream::Upstream;
use crate::view::View;

/// What own pages are made of.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Templates.
    pub(crate) view: Arc<View>,
    /// Signing in and out.
    pub(crate) sign_in: Arc<SignIn>,
    /// Identifies the visitor.
    pub(crate) authenticator: Authenticator,
    /// Tokens.
    pub(crate) store: Arc<dyn SessionStore>,
    /// Told to the store before last uses are shown.
    pub(crate) uses: Uses,
    /// Limits what a user, and what an address without a user, may ask for.
    pub(crate) quotas: Arc<Quotas>,
    /// Renews access, and knows what stands in its way.
    pub(crate) broker: Arc<Broker>,
    /// Hands tokens over to computers.
    pub(crate) handover: Handover,
    /// Asked, as the user, how it sees them.
    pub(crate) upstream: Arc<Upstream>,
    /// Dashboards on hosts of their own.
    pub(crate) mounts: Arc<Mounts>,
    /// Guards what a cookie may do, on pages that configured origins may use.
    pub(crate) origins: Origins,
    /// The same on all other pages: only they themselves may.
    pub(crate) own_origin: Origins,
    /// Time.
    pub(crate) clock: Clock,
    /// What the administrator has set.
    pub(crate) settings: PageSettings,
}

/// The settings that pages go by.
#[derive(Clone, Debug)]
pub(crate) struct PageSettings {
    /// How long tokens live.
    pub(crate) lifetimes: Lifetimes,
    /// How tokens are handed over.
    pub(crate) handover: HandoverConfig,
    /// Bound on the body of a request.
    pub(crate) max_body_bytes: usize,
    /// Whether dormant tokens may be armed.
    pub(crate) rearm: bool,
    /// Whether a sign-out leads on to Entra's own.
    pub(crate) sign_out_of_entra: bool,
    /// The cluster's name.
    pub(crate) cluster_name: String,
    /// PEM for kubeconfigs.
    pub(crate) public_ca_pem: Option<String>,
}

/// A request to a page.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    parts: &'a Parts,
    /// Whether pages of configured origins may use this page.
    is_shared: bool,
    body: &'a mut Incoming,
    forwarded_headers: &'a ForwardedHeaders,
    record: &'a Record,
}

impl<'a> Visit<'a> {
    /// Of `body` a page reads what it needs. `forwarded_headers` go along with what it asks the API server. Who the request
    /// is from is noted in `record`. `is_shared`: pages of configured origins may use it.
    #[must_use]
    pub(crate) fn new(
        is_shared: bool,
        parts: &'a Parts,
        body: &'a mut Incoming,
        forwarded_headers: &'a ForwardedHeaders,
        record: &'a Record,
    ) -> Self {
        Self { parts, is_shared, body, forwarded_headers, record }
    }

    fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// Whether a page is the better answer than JSON.
    fn wants_page(&self) -> bool {
        crate::route::wants_page(&self.parts.headers)
    }
}

impl Pages {
    /// Renders one page.
    ///
    /// # Errors
    /// What the visitor is to be told instead.
    pub(crate) async fn visit(&self, page: Page, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let (record, of_page) = (visit.record, page.clone());
        let act = attempted(&of_page);
        // That page may also take something away. It asks for itself.
        if act.as_ref().is_some_and(Act::gives) && !matches!(page, Page::CreateToken) {
            record.can_tell()?;
        }
        let attempt = Attempt { record, act };
        let answer = self.render(page, visit).await;
        attempt.answered(&answer);
        answer
    }

    async fn render(&self, page: Page, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        match page {
            Page::Portal => self.portal(&visit).await,
            Page::Login => {
                self.quotas.admit_sign_in(visit.record.client())?;
                self.login(&visit).await
            }
            Page::Callback => {
                self.quotas.admit_sign_in(visit.record.client())?;
                self.callback(&visit).await
            }
            Page::Logout => self.logout(visit).await,
            Page::LogoutEverywhere => self.logout_everywhere(&visit).await,
            Page::FrontChannelLogout => self.front_channel_logout(&visit).await,
            Page::Whoami => self.whoami(&visit).await,
            Page::Refresh => self.refresh(&visit).await,
            Page::ListTokens => self.list_tokens(&visit).await,
            Page::CreateToken => self.create_token(visit).await,
            Page::ArmTokens => self.arm_tokens(visit).await,
            Page::RevokeToken(id) => self.revoke_token(&id, visit).await,
            Page::CreateKubeconfig => self.create_kubeconfig(visit).await,
            Page::PluginKubeconfig => self.plugin_kubeconfig(&visit).await,
            Page::Asset(name) => assets::asset(&name),
            Page::Reserved => Err(Problem::not_found()),
            Page::AskBrowser
            | Page::AnswerBrowser
            | Page::RedeemCode
            | Page::RenewToken
            | Page::RevokePresented => self.cli(page, visit).await,
            Page::EnterCode | Page::AskDevice | Page::AnswerDevice | Page::DeviceCode | Page::DeviceToken => {
                self.device(page, visit).await
            }
        }
    }

    /// The visitor with any credential; a cookie is guarded as it is for the cluster.
    async fn visitor(&self, visit: &Visit<'_>) -> Result<Identity, Problem> {
        let identity = self.identify(visit).await?;
        self.quotas.admit_visit(&identity).await?;
        self.authenticator.note_use(&identity, visit.record.client());
        Ok(identity)
    }

    /// The visitor with a browser's cookie: for what a token must not do. Not bound by the user's rate: whoever floods with a
    /// stolen token must not keep its owner from revoking it.
    async fn browser(&self, visit: &Visit<'_>) -> Result<Identity, Problem> {
        let identity = self.identify(visit).await?;
        if !identity.is_cookie() {
            return Err(Problem::cookie_required());
        }
        self.authenticator.note_use(&identity, visit.record.client());
        Ok(identity)
    }

    /// The same within the user's rate: for what makes something.
    async fn browser_within_rate(&self, visit: &Visit<'_>) -> Result<Identity, Problem> {
        let identity = self.browser(visit).await?;
        self.quotas.admit_visit(&identity).await?;
        Ok(identity)
    }

    async fn identify(&self, visit: &Visit<'_>) -> Result<Identity, Problem> {
        let identity = self.authenticator.identify(visit.headers()).await?;
        visit.record.identified(identity.credential(), identity.session());
        if identity.is_dashboard() {
            return Err(Problem::dashboards_call_the_api());
        }
        if identity.is_cookie() {
            self.guard(visit)?;
        }
        Ok(identity)
    }

    fn guard(&self, visit: &Visit<'_>) -> Result<(), Problem> {
        let origins = if visit.is_shared { &self.origins } else { &self.own_origin };
        let passes = if visit.parts.method.is_safe() {
            origins.tolerate(visit.parts)
        } else {
            origins.prove(visit.headers())
        };
        if passes { Ok(()) } else { Err(Denied::CrossOrigin.into()) }
    }
}

/// An attempt to do something that the audit log tells of. It is told, unless it was told as done by then, when it is refused;
/// and when it is dropped without an answer because the visitor left, for what was begun may come to its end all the same.
struct Attempt<'a> {
    record: &'a Record,
    /// Nothing once there is an answer.
    act: Option<Act<'a>>,
}

impl Attempt<'_> {
    fn answered<T>(mut self, answer: &Result<T, Problem>) {
        if let (Some(act), Err(problem)) = (self.act.take(), answer)
            && !self.record.has_told()
        {
            self.record.tell_act(&act, &problem.refusal().outcome());
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(act) = self.act.take().filter(|_| !self.record.has_told()) {
            self.record.tell_unanswered(&act);
        }
    }
}

/// What a visit to the page is meant to do, where the audit log tells of it. What it succeeds in, the page itself tells.
fn attempted(page: &Page) -> Option<Act<'_>> {
    Some(match page {
        Page::Callback => Act::SignIn(""),
        Page::Logout => Act::SignOut(""),
        Page::LogoutEverywhere => Act::SignOutEverywhere,
        Page::FrontChannelLogout => Act::SignOutByEntra,
        Page::Refresh => Act::AccessRenewed(""),
        Page::CreateToken | Page::CreateKubeconfig => Act::TokenMade(""),
        Page::ArmTokens => Act::TokenArmed(""),
        Page::RevokeToken(id) => Act::TokenRevoked(id),
        Page::AnswerBrowser | Page::AnswerDevice => Act::HandoverAllowed(""),
        Page::RedeemCode => Act::TokenMade(""),
        Page::RenewToken => Act::TokenRenewed(""),
        Page::RevokePresented => Act::TokenRevoked(""),
        Page::Portal
        | Page::Login
        | Page::Whoami
        | Page::ListTokens
        | Page::PluginKubeconfig
        | Page::Asset(_)
        | Page::AskBrowser
        | Page::EnterCode
        | Page::AskDevice
        | Page::DeviceCode
        // Most of its visits find nothing: it tells of a token where it makes one.
        | Page::DeviceToken
        | Page::Reserved => return None,
    })
}
