//! The tokens: ID tokens (v2), AKS access tokens (v1), opaque ones for everything else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Entra;
use super::random;
use super::scope::{AKS_SERVER_APP, Scopes};
use super::session::SignIn;
use super::state::{Shared, State};
use super::users::User;

/// ID tokens are dated back by this much, in seconds.
const BACKDATED: i64 = 300;
/// `exp - iat` of an ID token, in seconds.
const ID_TOKEN_SPAN: i64 = 3900;
/// More groups than this do not go into a token.
const GROUPS_MAX: usize = 200;

/// One thing wrong with an ID token that a client must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdTokenFault {
    /// A nonce that the client did not send.
    WrongNonce,
    /// No nonce though one was sent.
    NoNonce,
    /// `iss` of another tenant.
    WrongIssuer,
    /// `aud` of another app.
    WrongAudience,
    /// `tid` of another tenant, all else right.
    WrongTenant,
    /// A signature of the right key over other claims.
    BadSignature,
    /// Signed by a key that is not published, under the `kid` of one that is not.
    UnknownKid,
    /// `alg: none` and no signature.
    AlgNone,
    /// `exp` an hour ago.
    Expired,
    /// `nbf` (and `iat`) in an hour.
    NotYetValid,
    /// `ver` is "1.0".
    WrongVersion,
    /// No `oid`.
    NoOid,
    /// No ID token at all.
    Missing,
}

/// An ID token for the app; `None` when a fault leaves it out.
pub(crate) fn id_token(
    shared: &Shared,
    state: &mut State,
    user: &User,
    sign_in: &SignIn,
    scopes: &Scopes,
    nonce: Option<&str>,
) -> Option<String> {
    let fault = state.id_token_next.pop_front().or(state.id_token_always);
    let mut claims = id_claims(shared, user, sign_in, scopes, nonce);
    let key = state.keys.active();
    let mut header = json!({"typ": "JWT", "alg": "RS256", "kid": key.kid});
    let now = shared.time.unix();
    match fault {
        None | Some(IdTokenFault::BadSignature | IdTokenFault::AlgNone) => {}
        Some(IdTokenFault::Missing) => return None,
        Some(IdTokenFault::WrongNonce) => claims["nonce"] = json!(random::token(16)),
        Some(IdTokenFault::NoNonce) => remove(&mut claims, "nonce"),
        Some(IdTokenFault::WrongIssuer) => {
            claims["iss"] = json!(format!("{}/{}/v2.0", shared.origin(), random::guid()));
        }
        Some(IdTokenFault::WrongAudience) => claims["aud"] = json!(random::guid()),
        Some(IdTokenFault::WrongTenant) => claims["tid"] = json!(random::guid()),
        Some(IdTokenFault::UnknownKid) => {
            let stranger = super::keys::SigningKey::generate("stranger").ok()?;
            header["kid"] = json!(stranger.kid);
            return Some(stranger.sign(&header, &claims));
        }
        Some(IdTokenFault::Expired) => claims["exp"] = json!(now - 3600),
        Some(IdTokenFault::NotYetValid) => {
            claims["nbf"] = json!(now + 3600);
            claims["iat"] = json!(now + 3600);
            claims["exp"] = json!(now + 7200);
        }
        Some(IdTokenFault::WrongVersion) => claims["ver"] = json!("1.0"),
        Some(IdTokenFault::NoOid) => remove(&mut claims, "oid"),
    }
    let signed = key.sign(&header, &claims);
    Some(match fault {
        Some(IdTokenFault::BadSignature) => with_other_claims(&signed, claims),
        Some(IdTokenFault::AlgNone) => unsigned(&claims),
        _ => signed,
    })
}

fn id_claims(shared: &Shared, user: &User, sign_in: &SignIn, scopes: &Scopes, nonce: Option<&str>) -> Value {
    let (issued, client) = (shared.time.unix() - BACKDATED, &shared.options.client_id);
    let mut claims = json!({
        "aud": client,
        "iss": shared.issuer(),
        "iat": issued,
        "nbf": issued,
        "exp": issued + ID_TOKEN_SPAN,
        "aio": random::token(48),
        "login_hint": user.login_hint(),
        "rh": format!("1.{}", random::token(24)),
        "sid": sign_in.sid,
        "sub": user.subject(client),
        "tid": shared.tenant(),
        "uti": random::token(16),
        "ver": "2.0",
    });
    if scopes.profile {
        claims["oid"] = json!(user.oid);
        claims["name"] = json!(user.display_name);
        claims["preferred_username"] = json!(user.username);
    }
    if scopes.email {
        claims["email"] = json!(user.username);
    }
    if let Some(upn) = &user.upn {
        claims["upn"] = json!(upn);
    }
    if user.home_tid != shared.tenant() {
        claims["idp"] = json!(format!("{}/{}/", shared.origin(), user.home_tid));
    }
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    claims
}

/// The user's access token for AKS, valid for `lifetime` seconds from now.
pub(crate) fn aks_token(
    shared: &Shared,
    state: &State,
    user: &User,
    sign_in: &SignIn,
    lifetime: i64,
) -> String {
    let now = shared.time.unix();
    let mut claims = json!({
        "aud": AKS_SERVER_APP,
        "iss": shared.aks_issuer(),
        "iat": now - BACKDATED,
        "nbf": now - BACKDATED,
        "exp": now + lifetime,
        "acr": "1",
        "aio": random::token(60),
        "amr": if sign_in.mfa { json!(["pwd", "mfa"]) } else { json!(["pwd"]) },
        "appid": shared.options.client_id,
        "appidacr": "2",
        "ipaddr": "127.0.0.1",
        "name": user.display_name,
        "oid": user.oid,
        "rh": format!("1.{}", random::token(24)),
        "scp": "user.read",
        "sid": sign_in.sid,
        "sub": user.subject(AKS_SERVER_APP),
        "tid": shared.tenant(),
        "unique_name": user.username,
        "uti": random::token(16),
        "ver": "1.0",
    });
    if let Some(upn) = &user.upn {
        claims["upn"] = json!(upn);
    }
    if user.home_tid != shared.tenant() {
        claims["idp"] = json!(format!("{}/{}/", shared.origin(), user.home_tid));
    }
    if user.groups.len() <= GROUPS_MAX {
        claims["groups"] = json!(user.groups);
    } else {
        let ask = format!("{}/{}/users/{}/getMemberObjects", shared.origin(), shared.tenant(), user.oid);
        claims["_claim_names"] = json!({"groups": "src1"});
        claims["_claim_sources"] = json!({"src1": {"endpoint": ask}});
    }
    let key = state.keys.active();
    key.sign(&json!({"typ": "JWT", "alg": "RS256", "x5t": key.kid, "kid": key.kid}), &claims)
}

/// The app's own token for a resource, without a user, valid for `lifetime` seconds from now.
pub(crate) fn app_token(shared: &Shared, state: &State, audience: &str, lifetime: i64) -> String {
    let now = shared.time.unix();
    let claims = json!({
        "aud": audience,
        "iss": shared.aks_issuer(),
        "iat": now - BACKDATED,
        "nbf": now - BACKDATED,
        "exp": now + lifetime,
        "appid": shared.options.client_id,
        "appidacr": "2",
        "idtyp": "app",
        "oid": shared.options.principal_id,
        "sub": shared.options.principal_id,
        "tid": shared.tenant(),
        "uti": random::token(16),
        "ver": "1.0",
    });
    let key = state.keys.active();
    key.sign(&json!({"typ": "JWT", "alg": "RS256", "x5t": key.kid, "kid": key.kid}), &claims)
}

fn remove(claims: &mut Value, name: &str) {
    if let Some(claims) = claims.as_object_mut() {
        claims.remove(name);
    }
}

/// The token with its claims exchanged for others, under the old signature.
fn with_other_claims(signed: &str, mut claims: Value) -> String {
    claims["name"] = json!("Somebody Else");
    let mut parts: Vec<String> = signed.split('.').map(str::to_owned).collect();
    parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
    parts.join(".")
}

fn unsigned(claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "none"}).to_string();
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

impl Entra {
    /// Spoils the next ID token in this way; several calls queue up.
    pub fn spoil_next_id_token(&self, fault: IdTokenFault) {
        self.lock().id_token_next.push_back(fault);
    }

    /// Spoils every ID token in this way; `None`: none (the queue stays).
    pub fn spoil_id_tokens(&self, fault: Option<IdTokenFault>) {
        self.lock().id_token_always = fault;
    }
}
