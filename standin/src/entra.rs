//! A stand-in Microsoft Entra: one tenant with one app registration, on one loopback port.
//!
//! A sign-in goes through these files in order: `routes` (which endpoint, is it to fail?), `discovery`, `authorize`
//! and its `page` (who is it?), `token` with `federation` (is it the app?), `scope` and `policy` (may they?), `mint`
//! with `keys` (the tokens). `faults` breaks it on request, `record` remembers.
//!
//! Invariants: nothing is issued that a check of the real one would have refused; a code works once; a refresh token
//! belongs to one user and one client; all state lies behind one lock, so a setter acts on the very next request.

mod authorize;
mod discovery;
mod errors;
mod faults;
mod federation;
mod form;
mod keys;
mod logout;
mod mint;
mod page;
mod policy;
mod random;
mod record;
mod redeem;
mod routes;
mod scope;
mod session;
mod state;
mod token;
mod users;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub use errors::ErrorStyle;
pub use faults::{Endpoint, Fault, Hold};
pub use mint::IdTokenFault;
pub use record::{Calls, TokenCall};
pub use scope::AKS_SERVER_APP;
pub use users::{ADMINS_GROUP, EVERYONE_GROUP, User};

use crate::pki::Ca;
use crate::serve::Listener;
use crate::time::Time;
use state::{Shared, State};

/// What a tenant is made of when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The app registration's client id, a GUID.
    pub client_id: String,
    /// The tenant's id, a GUID.
    pub tenant_id: String,
    /// The object id of the app's service principal, a GUID.
    pub principal_id: String,
    /// The app's display name, as error texts show it.
    pub app_name: String,
    /// Redirect URIs of the platform "Web", compared exactly. Also the allowed targets after a sign-out.
    pub redirect_uris: Vec<String>,
    /// Whether every secret issued or received is kept for [`Entra::secrets`]. Off for long load tests.
    pub keep_secrets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "c11e47ed-0000-4000-8000-00000e47ada1".to_owned(),
            tenant_id: "7e4a4700-0000-4000-8000-00000e47ada2".to_owned(),
            principal_id: "0b1ec7ed-0000-4000-8000-00000e47ada3".to_owned(),
            app_name: "entrada".to_owned(),
            redirect_uris: Vec::new(),
            keep_secrets: true,
        }
    }
}

/// A running stand-in Entra. Dropping it closes its port.
pub struct Entra {
    shared: Arc<Shared>,
    tls: Arc<rustls::ServerConfig>,
    addr: SocketAddr,
    listener: tokio::sync::Mutex<Option<Listener>>,
}

impl Entra {
    /// Starts a tenant on `addr` (port 0: any free one) with a certificate of `ca`.
    ///
    /// # Errors
    /// When keys or certificates cannot be made, or the port cannot be opened.
    pub async fn start(addr: SocketAddr, ca: &Ca, time: Time, options: Options) -> anyhow::Result<Self> {
        let tls = ca.issue(&[])?.server_config()?;
        let state = State::new(&options)?;
        let shared = Arc::new(Shared { time, options, origin: OnceLock::new(), state: Mutex::new(state) });
        let listener = listen(addr, &tls, &shared).await?;
        let addr = listener.addr();
        shared.origin.get_or_init(|| format!("https://localhost:{}", addr.port()));
        Ok(Self { shared, tls, addr, listener: tokio::sync::Mutex::new(Some(listener)) })
    }

    /// `https://localhost:PORT`, without a trailing slash.
    #[must_use]
    pub fn origin(&self) -> String {
        self.shared.origin().to_owned()
    }

    /// The value for `AZURE_AUTHORITY_HOST`: the origin with a trailing slash, as the webhook injects it.
    #[must_use]
    pub fn authority_host(&self) -> String {
        format!("{}/", self.shared.origin())
    }

    /// The address that was bound.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The tenant's id.
    #[must_use]
    pub fn tenant_id(&self) -> String {
        self.shared.options.tenant_id.clone()
    }

    /// The app registration's client id.
    #[must_use]
    pub fn client_id(&self) -> String {
        self.shared.options.client_id.clone()
    }

    /// The issuer of ID tokens: `{origin}/{tenant}/v2.0`.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.shared.issuer()
    }

    /// The issuer of AKS tokens, `{origin}/{tenant}/`: what `https://sts.windows.net/{tenant}/` is in the cloud.
    #[must_use]
    pub fn aks_issuer(&self) -> String {
        self.shared.aks_issuer()
    }

    /// Replaces the app's redirect URIs.
    pub fn set_redirect_uris(&self, uris: Vec<String>) {
        self.lock().redirect_uris = uris;
    }

    /// Signs everyone who comes to `/authorize` in as this user, without a page; `None` shows the page again.
    pub fn sign_in_directly(&self, user: Option<&str>) {
        self.lock().direct = user.map(str::to_owned);
    }

    /// Sets the app's front-channel logout URL. A sign-out at the tenant then shows a page that loads it, with the
    /// session's `sid`, in a frame, before the page leads on.
    pub fn set_frontchannel_logout_url(&self, url: Option<&str>) {
        self.lock().frontchannel = url.map(str::to_owned);
    }

    /// Has the discovery document name another issuer; `None`: the tenant's own.
    pub fn set_discovery_issuer(&self, issuer: Option<&str>) {
        self.lock().other_issuer = issuer.map(str::to_owned);
    }

    /// Whether a refresh token dies when its successor is issued. Off at first, as with the real one.
    pub fn set_strict_rotation(&self, strict: bool) {
        self.lock().strict_rotation = strict;
    }

    /// Whether a refresh brings a new refresh token. Off: the answer has none, and the client must keep the old one.
    pub fn set_rotation(&self, on: bool) {
        self.lock().rotates = on;
    }

    /// Fixes the lifetime of access tokens (whole seconds); `None`: at random 3600 to 5400 s.
    pub fn set_access_token_lifetime(&self, lifetime: Option<Duration>) {
        self.lock().lifetime = lifetime;
    }

    /// Sends `refresh_in` (whole seconds) with each access token; `None`: leaves it out, as is usual for AKS.
    pub fn set_refresh_in(&self, after: Option<Duration>) {
        self.lock().refresh_in = after;
    }

    /// The app's own tokens for Azure's Redis, oldest first.
    #[must_use]
    pub fn store_tokens(&self) -> Vec<String> {
        self.lock().store_tokens.clone()
    }

    /// How error descriptions are broken into lines.
    pub fn set_error_style(&self, style: ErrorStyle) {
        self.lock().error_style = style;
    }

    /// Closes the port and every connection at once: the tenant cannot be reached until [`Entra::revive`].
    pub async fn kill(&self) {
        if let Some(listener) = self.listener.lock().await.take() {
            listener.kill().await;
        }
    }

    /// Opens the same port again after [`Entra::kill`], with the same keys, users and grants.
    ///
    /// # Errors
    /// When somebody else took the port meanwhile.
    pub async fn revive(&self) -> anyhow::Result<()> {
        let mut listener = self.listener.lock().await;
        if listener.is_none() {
            *listener = Some(listen(self.addr, &self.tls, &self.shared).await?);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(
    addr: SocketAddr,
    tls: &Arc<rustls::ServerConfig>,
    shared: &Arc<Shared>,
) -> anyhow::Result<Listener> {
    let shared = Arc::clone(shared);
    Listener::start(addr, Arc::clone(tls), move |request| {
        let shared = Arc::clone(&shared);
        async move {
            // The tenant's time, not the machine's.
            let date = shared.time.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let mut answer = routes::handle(shared, request).await?;
            answer.headers_mut().insert("date", date.parse()?);
            Ok(answer)
        }
    })
    .await
}
