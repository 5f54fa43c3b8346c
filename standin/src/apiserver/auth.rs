//! Who calls: the bearer token, verified as AKS verifies it. Nothing else authenticates, and there is no anonymous.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;

use crate::KeySource;

/// Clocks of issuer and verifier may differ by this much for `nbf`, as in the OpenID Connect library of AKS.
const NBF_LEEWAY_SECONDS: i64 = 300;

/// Which tokens are believed.
pub struct Trust {
    /// The exact `iss`, e.g. `https://sts.windows.net/<tenant>/`.
    pub issuer: String,
    /// The `aud` that stands for this server.
    pub audience: String,
    /// Public keys by `kid`.
    pub keys: KeySource,
}

/// A caller, or whom a caller impersonates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name that RBAC knows: `upn`, else `oid`.
    pub name: String,
    /// Only ever set by `Impersonate-Uid`.
    pub uid: String,
    /// Group ids and `system:authenticated`.
    pub groups: Vec<String>,
    /// `oid`, and what `Impersonate-Extra-*` adds.
    pub extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Claims {
    oid: Option<String>,
    upn: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
}

impl Trust {
    /// The user of a request head, or nothing when it has not exactly one valid bearer token.
    ///
    /// `now` and `not_issued_before` are seconds since 1970; a token issued before the latter is refused.
    #[must_use]
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        now: i64,
        not_issued_before: Option<i64>,
    ) -> Option<User> {
        let mut presented = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (presented.next(), presented.next()) else { return None };
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let claims = self.verify(token.trim())?;
        let too_early = claims.nbf.is_some_and(|nbf| nbf > now + NBF_LEEWAY_SECONDS);
        let too_old = not_issued_before.is_some_and(|bound| claims.iat.is_none_or(|iat| iat < bound));
        if claims.exp <= now || too_early || too_old {
            return None;
        }
        User::of(claims)
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let kid = jsonwebtoken::decode_header(token).ok()?.kid?;
        let key = (self.keys)(&kid)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Expiry is compared with the stand-ins' clock by the caller, without leeway.
        validation.validate_exp = false;
        Some(jsonwebtoken::decode::<Claims>(token, &key, &validation).ok()?.claims)
    }
}

impl User {
    fn of(claims: Claims) -> Option<Self> {
        let extra = claims.oid.iter().map(|oid| ("oid".to_owned(), vec![oid.clone()])).collect();
        let mut groups = claims.groups;
        groups.push("system:authenticated".to_owned());
        Some(Self { name: claims.upn.or(claims.oid)?, uid: String::new(), groups, extra })
    }
}
