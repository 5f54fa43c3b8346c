//! Microsoft Entra, as Entrada uses it: one tenant, one app registration.
//!
//! Discovery and keys are fetched in the background and kept; sign-in asks for an authorization URL, redeems a code
//! and verifies the ID token; the broker redeems refresh tokens. Our own identity on each token request is the pod's
//! projected service-account token, read anew each time. This room knows no session and no credential of ours.

mod authorize;
mod fault;
mod http;
mod id_token;
mod probe;
mod provider;
mod redemptions;
mod token;

use std::sync::Arc;

pub(crate) use self::authorize::AuthorizeRequest;
pub(crate) use self::fault::EntraFault;
pub use self::fault::{Class, error_table};
pub(crate) use self::http::CallError;
pub(crate) use self::id_token::{IdTokenError, SignedIn};
pub(crate) use self::probe::{Look, Registration, Trouble};
pub(crate) use self::provider::NotReady;
pub(crate) use self::redemptions::{RedemptionTurn, TooManyRedemptions};
pub(crate) use self::token::{Minted, Redeemed, claims_of};

use crate::clock::Clock;
use crate::config::EntraConfig;
use crate::metrics::Metrics;

/// The app id of "Azure Kubernetes Service AAD Server", the same in every cloud: the audience of AKS tokens.
pub(crate) const AKS_SERVER_APP_ID: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";

/// A client of one Entra tenant.
#[derive(Debug)]
pub(crate) struct Entra {
    config: EntraConfig,
    redirect_uri: String,
    http: http::Http,
    provider: provider::ProviderCache,
    redemptions: redemptions::Redemptions,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Entra {
    /// Prepares a client; nothing is fetched yet.
    ///
    /// # Errors
    /// When the extra trust root cannot be read.
    pub(crate) fn new(
        config: EntraConfig,
        redirect_uri: String,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let http =
            http::Http::new(config.ca_file.as_deref(), config.timeout, metrics.entra_calls_waiting.clone())?;
        let (provider, redemptions) =
            (provider::ProviderCache::default(), redemptions::Redemptions::new(&metrics));
        Ok(Self { config, redirect_uri, http, provider, redemptions, clock, metrics })
    }

    /// Whether `issuer` is this tenant's, as discovery names it.
    #[must_use]
    pub(crate) fn is_issuer(&self, issuer: &str) -> bool {
        self.provider().is_ok_and(|provider| provider.issuer == issuer)
    }

    /// The address at which an administrator consents to the app in the whole tenant.
    pub(crate) fn admin_consent_url(&self) -> String {
        format!(
            "{}{}/adminconsent?client_id={}",
            self.config.authority, self.config.tenant_id, self.config.client_id
        )
    }

    /// Classifies the error parameters of Entra's redirect.
    #[must_use]
    pub(crate) fn read_redirect(&self, error: &str, description: &str) -> EntraFault {
        EntraFault::from_redirect(error, description)
            .with_addresses(&self.admin_consent_url(), &self.redirect_uri)
    }
}
