//! A throwaway issuer of user tokens, for the API server's own tests and example.

use std::sync::Arc;

use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde_json::{Value, json};
use standin::apiserver::Trust;
use standin::time::Time;

pub(crate) const ISSUER: &str = "https://sts.windows.net/11111111-1111-1111-1111-111111111111/";
pub(crate) const AUDIENCE: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";

pub(crate) struct Signer {
    key: EncodingKey,
    public: DecodingKey,
    time: Time,
}

impl Signer {
    pub(crate) fn new(time: Time) -> anyhow::Result<Self> {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let public = pair.public_key();
        Ok(Self {
            key: EncodingKey::from_rsa_pem(pem.as_bytes())?,
            public: DecodingKey::from_rsa_raw_components(
                public.modulus().big_endian_without_leading_zero(),
                public.exponent().big_endian_without_leading_zero(),
            ),
            time,
        })
    }

    pub(crate) fn trust(&self) -> Trust {
        let public = self.public.clone();
        let keys = Arc::new(move |kid: &str| (kid == "k1").then(|| public.clone()));
        Trust { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), keys }
    }

    /// A token for `<name>@example.com`, good for an hour, with some claims replaced.
    pub(crate) fn token(&self, name: &str, claims: Value) -> String {
        let now = self.time.unix();
        let mut all = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 3600, "ver": "1.0",
            "oid": format!("oid-of-{name}"), "upn": format!("{name}@example.com"), "groups": ["group-1"],
        });
        if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
            all.extend(claims);
        }
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &all, &self.key).expect("claims are JSON")
    }
}
