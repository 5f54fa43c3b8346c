//! Our own pages: sign-in, portal, tokens, kubeconfig, who am I. Everything that is not proxied.

mod assets;
mod body;
mod kubeconfig;
mod portal;
mod sessions;
mod sign_in;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::Lifetimes;
use crate::http::body::Body;
use crate::identity::signin::SignIn;
use crate::identity::{Authenticator, Identity};
use crate::policy::Denied;
use crate::policy::origin::Origins;
use crate::problem::{AUDIT_ID, Problem};
use crate::route::Page;
use crate::session::MemoryStore;
use crate::streams::Streams;
use crate::view::View;

/// What own pages are made of.
#[derive(Debug)]
pub struct Pages {
    /// Templates.
    pub view: Arc<View>,
    /// The sign-in flow.
    pub sign_in: Arc<SignIn>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// Sessions and tokens.
    pub store: Arc<MemoryStore>,
    /// Ends the streams of what is signed out or revoked.
    pub streams: Streams,
    /// Renews access, and knows what stands in its way.
    pub broker: Arc<Broker>,
    /// Guards what a cookie may do.
    pub origins: Origins,
    /// Time.
    pub clock: Clock,
    /// How long tokens live.
    pub lifetimes: Lifetimes,
    /// Bound on the body of a request.
    pub max_body_bytes: usize,
    /// Whether dormant tokens may be armed.
    pub rearm: bool,
    /// Whether a sign-out leads on to Entra's own.
    pub sign_out_of_entra: bool,
    /// The cluster's name.
    pub cluster_name: String,
    /// PEM for kubeconfigs.
    pub public_ca_pem: Option<String>,
}

/// A request to a page.
#[derive(Debug)]
pub struct Visit {
    parts: Parts,
    body: Incoming,
    client: IpAddr,
}

impl Visit {
    /// Takes a request apart. `client` is the address that trusted proxies vouch for.
    #[must_use]
    pub fn new(request: Request<Incoming>, client: IpAddr) -> Self {
        let (parts, body) = request.into_parts();
        Self { parts, body, client }
    }

    fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// Every request has one by now: the caller's or ours.
    fn audit_id(&self) -> HeaderValue {
        self.headers().get(AUDIT_ID).cloned().unwrap_or(HeaderValue::from_static("none"))
    }

    /// Whether a page is the better answer than JSON.
    fn wants_page(&self) -> bool {
        crate::route::wants_page(&self.parts.headers)
    }
}

impl Pages {
    /// Answers one page.
    ///
    /// # Errors
    /// What the visitor is to be told instead.
    pub async fn answer(&self, page: Page, visit: Visit) -> Result<Response<Body>, Problem> {
        match page {
            Page::Portal => self.portal(&visit).await,
            Page::Login => self.login(&visit).await,
            Page::Callback => self.callback(&visit).await,
            Page::Logout => self.logout(&visit).await,
            Page::LogoutEverywhere => self.logout_everywhere(&visit).await,
            Page::FrontChannelLogout => self.front_channel_logout(&visit).await,
            Page::Whoami => self.whoami(&visit).await,
            Page::Refresh => self.refresh(&visit).await,
            Page::ListTokens => self.list_tokens(&visit).await,
            Page::CreateToken => self.create_token(visit).await,
            Page::ArmTokens => self.arm_tokens(visit).await,
            Page::RevokeToken(id) => self.revoke_token(&id, visit).await,
            Page::CreateKubeconfig => self.create_kubeconfig(visit).await,
            Page::PluginKubeconfig => Err(Problem::not_built(
                "The credential plugin is not there yet; download a kubeconfig with a token from the portal.",
            )),
            Page::Asset(name) => assets::asset(&name),
            Page::NotBuilt => Err(Problem::not_built("The credential plugin is not there yet.")),
        }
    }

    /// The visitor with any credential; a cookie is guarded as it is for the cluster.
    async fn visitor(&self, visit: &Visit) -> Result<Identity, Problem> {
        let identity = self.authenticator.identify(visit.headers(), visit.client).await?;
        if identity.is_cookie() {
            self.guard(&visit.parts)?;
        }
        Ok(identity)
    }

    /// The visitor with a browser's cookie: for what a token must not do, such as making more tokens.
    async fn browser(&self, visit: &Visit) -> Result<Identity, Problem> {
        let identity = self.visitor(visit).await?;
        if identity.is_cookie() { Ok(identity) } else { Err(Problem::cookie_required()) }
    }

    fn guard(&self, parts: &Parts) -> Result<(), Problem> {
        let passes = if parts.method.is_safe() {
            self.origins.tolerate(parts)
        } else {
            self.origins.prove(&parts.headers)
        };
        if passes { Ok(()) } else { Err(Denied::CrossOrigin.into()) }
    }
}
