//! The token endpoint: a code or a refresh token in, an ID token or an AKS token out.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::authorize::scopes;
use super::fault::{Class, EntraFault};
use super::id_token::home_account_id;
use super::redemptions::RedemptionTurn;
use super::{AKS_SERVER_APP_ID, Entra};
use crate::clock::after;
use crate::secret::{
    AksToken, AttemptSecret, AuthorizationCode, ClientAssertion, RawIdToken, RefreshToken, StoreToken,
    random_guid,
};

/// The assertion on file had expired; the kubelet replaces it at 80 % of its life, so the file may be newer by now.
const ASSERTION_EXPIRED: u32 = 700_024;

/// Azure Managed Redis and Azure Cache for Redis.
const STORE_SCOPE: &str = "https://redis.azure.com/.default";

/// Token response for an authorization code.
#[derive(Debug)]
pub(crate) struct Redeemed {
    /// Not yet verified.
    pub(crate) id_token: RawIdToken,
    /// Mints AKS tokens.
    pub(crate) refresh_token: RefreshToken,
    /// `uid.utid` of client_info, where it came.
    pub(crate) home_account_id: Option<String>,
    /// An AKS token, where the sign-in named the AKS server.
    pub(crate) aks: Option<Minted>,
}

/// An AKS token with its times, and the refresh token that came with it.
#[derive(Clone, Debug)]
pub(crate) struct Minted {
    /// The token.
    pub(crate) aks_token: AksToken,
    /// When it was asked for.
    pub(crate) minted_at: Timestamp,
    /// When it expires.
    pub(crate) expires_at: Timestamp,
    /// When Entra asks us to renew it, where it does.
    pub(crate) refresh_in: Option<Duration>,
    /// The newer refresh token; without one the old stays.
    pub(crate) refresh_token: Option<RefreshToken>,
}

/// A token of our own for the session store.
#[derive(Debug)]
pub(crate) struct StoreAccess {
    /// The token: the store's password.
    pub(crate) token: StoreToken,
    /// Whose it is, as it says itself: the store's user.
    pub(crate) oid: Option<String>,
    /// For how long it is good.
    pub(crate) lasts: Duration,
}

#[derive(Serialize)]
struct Form<'a> {
    grant_type: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_verifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_info: Option<&'a str>,
    client_assertion_type: &'a str,
    client_assertion: &'a str,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    expires_in: u64,
    #[serde(default)]
    refresh_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    client_info: Option<String>,
}

impl Entra {
    /// Redeems the code of an authorization response, in the caller's turn. `with_aks`: the sign-in named the AKS server.
    ///
    /// # Errors
    /// Entra's refusal, or that it could not be asked.
    pub(crate) async fn redeem_code(
        &self,
        _turn: &RedemptionTurn,
        code: &AuthorizationCode,
        verifier: &AttemptSecret,
        with_aks: bool,
    ) -> Result<Redeemed, EntraFault> {
        let form = Form {
            code: Some(code.expose()),
            redirect_uri: Some(&self.redirect_uri),
            code_verifier: Some(verifier.expose()),
            ..self.form("authorization_code")
        };
        let (response, asked_at) = self.ask(form, &scopes(with_aks)).await?;
        let missing = EntraFault::incomplete;
        let id_token = response.id_token.clone().ok_or_else(|| missing("id_token"))?;
        let refresh_token = response.refresh_token.clone().ok_or_else(|| missing("refresh_token"))?;
        let home_account_id = response.client_info.as_deref().and_then(home_account_id);
        Ok(Redeemed {
            id_token: RawIdToken::new(id_token),
            refresh_token: RefreshToken::new(refresh_token),
            home_account_id,
            // Without the AKS server the access token is for another audience: it is dropped here.
            aks: with_aks.then(|| response.into_minted(asked_at)),
        })
    }

    /// Redeems a refresh token for an AKS token.
    ///
    /// # Errors
    /// Entra's refusal, or that it could not be asked.
    pub(crate) async fn mint_aks_token(&self, refresh_token: &RefreshToken) -> Result<Minted, EntraFault> {
        let form = Form { refresh_token: Some(refresh_token.expose()), ..self.form("refresh_token") };
        let (response, asked_at) = self.ask(form, &scopes(true)).await?;
        Ok(response.into_minted(asked_at))
    }

    /// Asks for a token of our own for Azure's Redis (client credentials, the workload identity's assertion).
    ///
    /// Source: "Use Microsoft Entra for cache authentication" of Azure Cache for Redis.
    ///
    /// # Errors
    /// Entra's refusal, or that it could not be asked.
    pub(crate) async fn store_token(&self) -> Result<StoreAccess, EntraFault> {
        let form = Form { client_info: None, ..self.form("client_credentials") };
        let (response, _) = self.ask(form, STORE_SCOPE).await?;
        let claims = claims_of(&response.access_token);
        let oid = claims.and_then(|claims| Some(claims["oid"].as_str()?.to_owned()));
        let lasts = Duration::from_secs(response.expires_in);
        Ok(StoreAccess { token: StoreToken::new(response.access_token), oid, lasts })
    }

    /// Asks for a token of our own for the AKS server, which nobody gets to see: whether Entra accepts the workload
    /// identity, and whether the tenant knows the AKS server.
    ///
    /// # Errors
    /// Entra's refusal, or that it could not be asked.
    pub(crate) async fn prove_identity(&self) -> Result<(), EntraFault> {
        let form = Form { client_info: None, ..self.form("client_credentials") };
        self.ask(form, &format!("{AKS_SERVER_APP_ID}/.default")).await.map(drop)
    }

    /// When the projected token expires, in Unix time; 0 where it cannot be read.
    pub(crate) async fn assertion_expires_at(&self) -> i64 {
        let assertion = self.assertion_on_file().await.ok();
        let claims = assertion.and_then(|assertion| claims_of(assertion.expose()));
        claims.and_then(|claims| claims["exp"].as_i64()).unwrap_or(0)
    }

    fn form<'a>(&'a self, grant_type: &'a str) -> Form<'a> {
        Form {
            grant_type,
            client_id: &self.config.client_id,
            code: None,
            redirect_uri: None,
            code_verifier: None,
            refresh_token: None,
            scope: "",
            client_info: Some("1"),
            client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            client_assertion: "",
        }
    }

    /// One token request; a second one where our assertion had just expired and the file holds a newer one.
    async fn ask(&self, form: Form<'_>, scope: &str) -> Result<(TokenResponse, Timestamp), EntraFault> {
        let assertion = self.read_assertion().await?;
        match self.post(&form, scope, &assertion).await {
            Err(fault) if fault.code == Some(ASSERTION_EXPIRED) => {
                let newer = self.read_assertion().await?;
                if newer.expose() == assertion.expose() {
                    return Err(fault);
                }
                self.post(&form, scope, &newer).await
            }
            other => other,
        }
    }

    async fn post(
        &self,
        form: &Form<'_>,
        scope: &str,
        assertion: &ClientAssertion,
    ) -> Result<(TokenResponse, Timestamp), EntraFault> {
        let correlation_id = random_guid();
        let provider =
            self.provider().map_err(|error| EntraFault::not_ready(&error.to_string(), &correlation_id))?;
        let form = Form { scope, client_assertion: assertion.expose(), ..*form };
        let body = serde_urlencoded::to_string(&form).expect("a form whose fields are strings");
        let asked_at = self.clock.now();
        let started = tokio::time::Instant::now();
        // A code counts once; a refresh token that was redeemed stays good.
        let may_repeat = form.code.is_none();
        let result = self.http.post_form(&provider.token_endpoint, body, &correlation_id, may_repeat).await;
        self.metrics.entra_seconds.observe(started.elapsed().as_secs_f64());
        let result = match result {
            Err(error) => Err(EntraFault::unreachable(&error, &correlation_id)),
            Ok(reply) if reply.status.is_success() => serde_json::from_slice(&reply.body)
                .map_err(|_| EntraFault::from_reply(&reply, &correlation_id)),
            Ok(reply) => Err(EntraFault::from_reply(&reply, &correlation_id)),
        };
        let result =
            result.map_err(|fault| fault.with_addresses(&self.admin_consent_url(), &self.redirect_uri));
        self.note(form.grant_type, result.as_ref().err(), assertion);
        result.map(|response| (response, asked_at))
    }

    fn note(&self, grant: &str, fault: Option<&EntraFault>, assertion: &ClientAssertion) {
        let outcome = match fault.map(|fault| fault.class) {
            None => "ok",
            Some(Class::SignIn | Class::Revoked) => "sign_in",
            Some(Class::StepUp) => "step_up",
            Some(Class::Blocked) => "blocked",
            Some(Class::Admin | Class::AdminForUser) => "admin",
            Some(Class::Transient) => "transient",
        };
        self.metrics.entra_calls.with_label_values(&[grant, outcome]).inc();
        let Some(fault) = fault else { return };
        tracing::warn!(
            grant,
            outcome,
            code = fault.code,
            error = fault.error,
            correlation_id = fault.correlation_id,
            trace_id = fault.trace_id,
            // Only where it helps an administrator: what our own assertion says of us.
            presented = (fault.class == Class::Admin).then(|| describe(assertion)),
            "a token request to Entra failed"
        );
    }

    async fn assertion_on_file(&self) -> std::io::Result<ClientAssertion> {
        let text = tokio::fs::read_to_string(&self.config.federated_token_file).await?;
        // Entra takes blanks in a form as they are; the file may end with a line break.
        Ok(ClientAssertion::new(text.trim()))
    }

    /// Reads the projected token by its path: the kubelet replaces the file behind it.
    async fn read_assertion(&self) -> Result<ClientAssertion, EntraFault> {
        match self.assertion_on_file().await {
            Ok(assertion) => Ok(assertion),
            Err(error) => {
                tracing::error!(%error, "AZURE_FEDERATED_TOKEN_FILE cannot be read; Entra was not asked");
                Err(EntraFault::no_assertion(&format!("AZURE_FEDERATED_TOKEN_FILE: {error}")))
            }
        }
    }
}

impl TokenResponse {
    fn into_minted(self, asked_at: Timestamp) -> Minted {
        Minted {
            aks_token: AksToken::new(self.access_token),
            minted_at: asked_at,
            expires_at: after(asked_at, Duration::from_secs(self.expires_in)),
            refresh_in: self.refresh_in.map(Duration::from_secs),
            refresh_token: self.refresh_token.map(RefreshToken::new),
        }
    }
}

/// Issuer, subject and audience of our own assertion: what a federated credential must match. Never the assertion.
fn describe(assertion: &ClientAssertion) -> String {
    claims_of(assertion.expose()).map_or_else(
        || "the projected token is not a JWT".to_owned(),
        |claims| format!("iss={} sub={} aud={}", claims["iss"], claims["sub"], claims["aud"]),
    )
}

/// The claims of a token in JWT form, unverified: of our own for the log, for a metric, and for the name that goes with it.
pub(crate) fn claims_of(token: &str) -> Option<serde_json::Value> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims.is_object().then_some(claims)
}
