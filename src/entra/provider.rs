//! Discovery and signing keys: fetched at start and hourly, on an unknown key at once, and the last good ones kept.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use openidconnect::core::CoreJsonWebKeySet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::Entra;
use super::http::CallError;

/// Entra rolls keys without notice and asks for a refresh at least daily; hourly is its own libraries' habit.
const REFRESH_EVERY: Duration = Duration::from_secs(3_600);
/// An unknown key makes us look again, but a stranger's made-up tokens must not make us hammer Entra.
const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(300);
/// Retry interval until the first successful fetch.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// What discovery says, as far as it is used, with the signing keys.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: String,
    pub(super) end_session_endpoint: Option<Url>,
    pub(super) keys: CoreJsonWebKeySet,
}

#[derive(Debug, Default)]
pub(super) struct ProviderCache {
    current: ArcSwapOption<Provider>,
    /// Why the last fetch failed, for readiness.
    failure: ArcSwapOption<FetchError>,
    /// One fetch at a time; holds when an unknown key last caused one.
    fetching: Mutex<Option<Instant>>,
}

/// Discovery has not succeeded yet; holds the last reason.
#[derive(Clone, Debug, Error)]
#[error("Entra's discovery document or keys have not been fetched yet: {0}")]
pub(crate) struct NotReady(String);

#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("{url}: {error}")]
    Call { url: String, error: CallError },
    #[error("{0} is not the JSON that was expected")]
    Json(String),
    #[error("the discovery document's issuer is {0}, which is not this tenant at the configured authority")]
    Issuer(String),
    #[error("the discovery document names {0}, which is not on an https host of the authority")]
    Endpoint(String),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    #[serde(default)]
    end_session_endpoint: Option<Url>,
}

impl Entra {
    /// Keeps discovery and keys fresh, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        loop {
            self.fetch().await;
            let pause = if self.provider.current.load().is_some() { REFRESH_EVERY } else { RETRY_EVERY };
            self.clock.pause(pause).await;
        }
    }

    /// Whether sign-ins and token requests can be made.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn ready(&self) -> Result<(), NotReady> {
        self.provider().map(drop)
    }

    pub(super) fn provider(&self) -> Result<Arc<Provider>, NotReady> {
        self.provider.current.load_full().ok_or_else(|| {
            let reason = self.provider.failure.load();
            NotReady(reason.as_ref().map_or_else(|| "no attempt has ended".to_owned(), ToString::to_string))
        })
    }

    /// Called for an unknown key: fetches again at once, but at most once in five minutes.
    pub(super) async fn look_for_new_keys(&self) {
        let mut last = self.provider.fetching.lock().await;
        let now = self.clock.instant();
        if last.is_some_and(|last| now.duration_since(last) < UNKNOWN_KEY_EVERY) {
            return;
        }
        *last = Some(now);
        self.fetch_and_publish().await;
    }

    async fn fetch(&self) {
        let _one_at_a_time = self.provider.fetching.lock().await;
        self.fetch_and_publish().await;
    }

    async fn fetch_and_publish(&self) {
        if let Err(error) = self.try_to_fetch().await {
            let older_in_use = self.provider.current.load().is_some();
            tracing::warn!(%error, older_in_use, "could not fetch Entra's discovery document and keys");
            self.provider.failure.store(Some(Arc::new(error)));
        }
    }

    pub(super) async fn try_to_fetch(&self) -> Result<(), FetchError> {
        self.provider.current.store(Some(Arc::new(self.fetch_provider().await?)));
        self.provider.failure.store(None);
        Ok(())
    }

    async fn fetch_provider(&self) -> Result<Provider, FetchError> {
        let (authority, tenant) = (&self.config.authority, &self.config.tenant_id);
        let discovery: Discovery = self.fetch_json(&self.discovery_url()).await?;
        if !is_our_issuer(&discovery.issuer, authority, tenant) {
            return Err(FetchError::Issuer(discovery.issuer));
        }
        // The client assertion goes to the token endpoint and users to the authorization endpoint: both must be at
        // the authority itself or at another name of the same cloud.
        for endpoint in [&discovery.authorization_endpoint, &discovery.token_endpoint, &discovery.jwks_uri] {
            if !same_cloud(endpoint, authority) {
                return Err(FetchError::Endpoint(endpoint.to_string()));
            }
        }
        let keys = self.fetch_json(discovery.jwks_uri.as_str()).await?;
        Ok(Provider {
            issuer: discovery.issuer,
            authorization_endpoint: discovery.authorization_endpoint,
            token_endpoint: discovery.token_endpoint.into(),
            // Our pages' policy lets a form end at the authority itself and nowhere else.
            end_session_endpoint: discovery
                .end_session_endpoint
                .filter(|url| url.origin() == authority.origin()),
            keys,
        })
    }

    pub(super) fn discovery_url(&self) -> String {
        format!("{}{}/v2.0/.well-known/openid-configuration", self.config.authority, self.config.tenant_id)
    }

    async fn fetch_json<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
        let call = |error| FetchError::Call { url: url.to_owned(), error };
        let reply = self.http.get(url).await.map_err(call)?;
        if !reply.status.is_success() {
            return Err(call(CallError::Unexpected(reply.status)));
        }
        serde_json::from_slice(&reply.body).map_err(|_| FetchError::Json(url.to_owned()))
    }
}

/// Names of one cloud's sign-in service; an issuer or endpoint may bear any name of the configured host's row.
/// Source: the instance metadata that Microsoft's authentication libraries carry.
const CLOUDS: &[&[&str]] = &[
    &[
        "login.microsoftonline.com",
        "login.windows.net",
        "login.microsoft.com",
        "sts.windows.net",
        "login-us.microsoftonline.com",
    ],
    &["login.microsoftonline.us", "login.usgovcloudapi.net"],
    &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
];

fn is_our_issuer(issuer: &str, authority: &Url, tenant: &str) -> bool {
    Url::parse(issuer).is_ok_and(|issuer| {
        same_cloud(&issuer, authority)
            && issuer.path() == format!("/{tenant}/v2.0")
            && issuer.query().is_none()
    })
}

fn same_cloud(url: &Url, authority: &Url) -> bool {
    if url.scheme() != "https" || url.port_or_known_default() != authority.port_or_known_default() {
        return false;
    }
    let (Some(host), Some(ours)) = (url.host_str(), authority.host_str()) else { return false };
    host == ours || CLOUDS.iter().any(|names| names.contains(&host) && names.contains(&ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";

    fn accepts(authority: &str, issuer: &str) -> bool {
        is_our_issuer(issuer, &Url::parse(authority).unwrap(), TENANT)
    }

    /// The issuer may bear another name of the same cloud, and nothing else.
    #[test]
    fn issuers_are_held_to_the_tenant_and_the_cloud() {
        let issuer = |host: &str| format!("https://{host}/{TENANT}/v2.0");
        assert!(accepts("https://login.microsoftonline.com/", &issuer("login.microsoftonline.com")));
        assert!(accepts("https://login.chinacloudapi.cn/", &issuer("login.partner.microsoftonline.cn")));
        assert!(accepts("https://localhost:4443/", &issuer("localhost:4443")));
        assert!(!accepts("https://localhost:4443/", &issuer("localhost:4444")));
        assert!(!accepts("https://login.microsoftonline.com/", &issuer("login.microsoftonline.us")));
        assert!(!accepts(
            "https://login.microsoftonline.com/",
            &issuer("login.microsoftonline.com.evil.example")
        ));
        assert!(!accepts(
            "https://login.microsoftonline.com/",
            "https://login.microsoftonline.com/{tenantid}/v2.0"
        ));
        assert!(!accepts(
            "https://login.microsoftonline.com/",
            &issuer("login.microsoftonline.com").replace("https", "http")
        ));
    }
}
