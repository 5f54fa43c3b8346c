//! Signing keys, each with a real certificate, and their rollover.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use super::Entra;

/// An RSA key pair of 2048 bits and its self-signed certificate.
pub(crate) struct SigningKey {
    pair: RsaKeyPair,
    /// Base64url SHA-1 of the certificate, as in the cloud; also `x5t`.
    pub(crate) kid: String,
    certificate: String,
    modulus: String,
    exponent: String,
}

/// Where the keys lie that every tenant of one process has in common.
pub(crate) type Common = Mutex<Option<Arc<SigningKey>>>;

/// The key that is published beside the one that signs. It never signs, so tenants may share it.
static STANDBY: Common = Mutex::new(None);

/// Keys that signed for tenants that are gone, and may sign for the next ones: no two tenants at a time have the same.
static SPARE: Mutex<Vec<Arc<SigningKey>>> = Mutex::new(Vec::new());

/// The tenant's keys: all that are published, one of which signs.
pub(crate) struct KeyRing {
    published: Vec<Arc<SigningKey>>,
    active: usize,
}

impl SigningKey {
    pub(crate) fn generate(common_name: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&pair)?;
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.der());
        let pair = RsaKeyPair::from_pkcs8(pair.serialized_der())?;
        let public = pair.public_key();
        let modulus = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let exponent = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        let (kid, certificate) = (URL_SAFE_NO_PAD.encode(sha1), STANDARD.encode(certificate.der()));
        Ok(Self { pair, kid, certificate, modulus, exponent })
    }

    /// A key made once in this process: generating one takes a tenth of a second, and tests start many tenants.
    pub(crate) fn common(place: &Common, common_name: &str) -> anyhow::Result<Arc<Self>> {
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = place.as_ref() {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(Self::generate(common_name)?);
        *place = Some(Arc::clone(&key));
        Ok(key)
    }

    /// A signed JWT (RS256) with exactly this header and these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
            .expect("the buffer has the modulus' length");
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn decoding_key(&self) -> Option<DecodingKey> {
        DecodingKey::from_rsa_components(&self.modulus, &self.exponent).ok()
    }

    /// The key as Entra publishes it: no `alg`; `issuer` only in the v2 document.
    pub(crate) fn jwk(&self, issuer: Option<&str>) -> Value {
        let mut jwk = json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": self.modulus,
            "e": self.exponent,
            "x5c": [self.certificate],
            "cloud_instance_name": "microsoftonline.com",
        });
        if let Some(issuer) = issuer {
            jwk["issuer"] = json!(issuer);
        }
        jwk
    }

    /// The key as a cluster's OIDC issuer publishes it.
    pub(crate) fn cluster_jwk(&self) -> Value {
        json!({"use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256", "n": self.modulus, "e": self.exponent})
    }
}

impl KeyRing {
    /// Two keys: one on standby, one that signs.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let name = "accounts.accesscontrol.standin.example";
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let signs = spare.map_or_else(|| SigningKey::generate(name).map(Arc::new), Ok)?;
        Ok(Self { published: vec![SigningKey::common(&STANDBY, name)?, signs], active: 1 })
    }

    pub(crate) fn active(&self) -> Arc<SigningKey> {
        Arc::clone(&self.published[self.active])
    }

    pub(crate) fn jwks(&self, issuer: Option<&str>) -> Value {
        let keys: Vec<Value> = self.published.iter().map(|key| key.jwk(issuer)).collect();
        json!({"keys": keys})
    }

    fn find(&self, kid: &str) -> Option<DecodingKey> {
        self.published.iter().find(|key| key.kid == kid)?.decoding_key()
    }
}

impl Drop for KeyRing {
    fn drop(&mut self) {
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(self.active());
    }
}

impl Entra {
    /// The published keys, for the API server's check of AKS tokens. Follows rollovers.
    #[must_use]
    pub fn keyset(&self) -> crate::KeySource {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |kid| shared.lock().keys.find(kid))
    }

    /// The `kid` that signs now.
    #[must_use]
    pub fn active_kid(&self) -> String {
        self.lock().keys.active().kid.clone()
    }

    /// Publishes another key that does not sign yet.
    ///
    /// # Errors
    /// When the key cannot be generated.
    pub fn keys_add_next(&self) -> anyhow::Result<()> {
        let key = SigningKey::generate("accounts.accesscontrol.standin.example")?;
        self.lock().keys.published.push(Arc::new(key));
        Ok(())
    }

    /// Signs with the newest published key from now on.
    pub fn keys_switch(&self) {
        let mut state = self.lock();
        state.keys.active = state.keys.published.len() - 1;
    }

    /// Stops publishing every key but the standby one (the first) and the one that signs.
    pub fn keys_drop_old(&self) {
        let mut state = self.lock();
        let (standby, active) = (Arc::clone(&state.keys.published[0]), state.keys.active());
        state.keys.published = vec![standby, active];
        state.keys.active = 1;
    }

    /// An emergency rollover: a new key signs at once, and the old one is gone at once.
    ///
    /// # Errors
    /// When the key cannot be generated.
    pub fn keys_replace(&self) -> anyhow::Result<()> {
        self.keys_add_next()?;
        self.keys_switch();
        self.keys_drop_old();
        Ok(())
    }
}
