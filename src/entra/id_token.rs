//! Verification of ID tokens. `openidconnect` checks signature, issuer, audience, nonce, expiry, and that the token was
//! not issued in the future; tenant, version, object id and not-before are checked here, because it leaves them to us.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use openidconnect::core::{
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AdditionalClaims, ClaimsVerificationError, ClientId, IdToken, IdTokenVerifier, IssuerUrl, Nonce,
    SignatureVerificationError,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Entra;
use super::provider::{NotReady, Provider};
use crate::clock::after;
use crate::secret::{AttemptSecret, RawIdToken};

/// Two clocks may differ by this much. Entra dates tokens five minutes back, so more is not needed.
const LEEWAY: Duration = Duration::from_secs(60);

type EntraIdToken =
    IdToken<EntraClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

/// Who signed in, from a verified ID token.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    /// The tenant; equal to the configured one.
    pub(crate) tid: String,
    /// The user's object id in that tenant.
    pub(crate) oid: String,
    /// Display name, for pages only.
    pub(crate) name: String,
    /// `preferred_username`: it can change, so it is for pages and kubeconfigs only.
    pub(crate) username: String,
    /// Opaque; names the account at the next sign-in and at Entra's logout.
    pub(crate) login_hint: Option<String>,
    /// Entra's session id, for its front-channel logout.
    pub(crate) sid: Option<String>,
}

/// Why an ID token was refused.
#[derive(Debug, Error)]
pub(crate) enum IdTokenError {
    /// No keys to verify it with.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// Not a JWT with the claims of an ID token.
    #[error("the ID token is malformed")]
    Malformed,
    /// Signature, issuer, audience, nonce or expiry.
    #[error("the ID token is not valid: {0}")]
    Invalid(#[from] ClaimsVerificationError),
    /// A claim that we check ourselves.
    #[error("the ID token's {0} is not as it must be")]
    Claim(&'static str),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct EntraClaims {
    #[serde(default)]
    tid: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    ver: String,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    login_hint: Option<String>,
    #[serde(default)]
    sid: Option<String>,
}

impl AdditionalClaims for EntraClaims {}

impl Entra {
    /// Verifies the ID token of one sign-in attempt.
    ///
    /// # Errors
    /// What is wrong with it. A key that is not known yet is looked for at Entra first.
    pub(crate) async fn verify_id_token(
        &self,
        raw: &RawIdToken,
        nonce: &AttemptSecret,
    ) -> Result<SignedIn, IdTokenError> {
        let token = EntraIdToken::from_str(raw.expose()).map_err(|_| IdTokenError::Malformed)?;
        match self.verify(&token, nonce) {
            Err(IdTokenError::Invalid(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            ))) => {
                self.look_for_new_keys().await;
                self.verify(&token, nonce)
            }
            verdict => verdict,
        }
    }

    fn verify(&self, token: &EntraIdToken, nonce: &AttemptSecret) -> Result<SignedIn, IdTokenError> {
        let provider = self.provider()?;
        let now = self.clock.now();
        let verifier = verifier(&provider, &self.config.client_id, now)?;
        let claims = token.claims(&verifier, &Nonce::new(nonce.expose().to_owned()))?;
        let entra = claims.additional_claims();
        if entra.ver != "2.0" {
            return Err(IdTokenError::Claim("version"));
        }
        if !entra.tid.eq_ignore_ascii_case(&self.config.tenant_id) {
            return Err(IdTokenError::Claim("tenant"));
        }
        if entra.oid.is_empty() || entra.oid.len() > 64 {
            return Err(IdTokenError::Claim("object id"));
        }
        if entra.nbf.is_some_and(|nbf| nbf > after(now, LEEWAY).as_second()) {
            return Err(IdTokenError::Claim("not-before time"));
        }
        let username = claims.preferred_username().map_or("", |name| name.as_str());
        let name = claims.name().and_then(|name| name.get(None)).map_or(username, |name| name.as_str());
        Ok(SignedIn {
            tid: entra.tid.to_ascii_lowercase(),
            oid: entra.oid.to_ascii_lowercase(),
            name: shown(name),
            username: shown(username),
            login_hint: entra.login_hint.clone(),
            sid: entra.sid.clone(),
        })
    }
}

fn verifier(
    provider: &Provider,
    client_id: &str,
    now: Timestamp,
) -> Result<IdTokenVerifier<'static, CoreJsonWebKey>, IdTokenError> {
    let issuer = IssuerUrl::new(provider.issuer.clone()).map_err(|_| IdTokenError::Claim("issuer"))?;
    let to_chrono = |seconds: i64| move || openidconnect_time(seconds);
    let behind = now.as_second() - LEEWAY.as_secs().cast_signed();
    let latest = after(now, LEEWAY).as_second();
    Ok(IdTokenVerifier::new_public_client(ClientId::new(client_id.to_owned()), issuer, provider.keys.clone())
        .set_allowed_algs([CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256])
        .set_time_fn(to_chrono(behind))
        .set_issue_time_verifier_fn(move |issued| {
            if issued.timestamp() <= latest { Ok(()) } else { Err("issued in the future".to_owned()) }
        }))
}

/// The library's own type of time, from seconds since 1970.
fn openidconnect_time(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

/// `uid.utid` of a client_info value. It is unsigned: data to keep, never to decide by.
pub(super) fn home_account_id(client_info: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ClientInfo {
        uid: String,
        utid: String,
    }
    let json = URL_SAFE_NO_PAD.decode(client_info).ok()?;
    let info: ClientInfo = serde_json::from_slice(&json).ok()?;
    (info.uid.len() + info.utid.len() <= 128).then(|| format!("{}.{}", info.uid, info.utid))
}

/// A name as it may be shown: without control characters, and not endless.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(128).collect()
}
