//! A code or a refresh token, from a client that has proved itself, turned into tokens.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::errors::Refusal;
use super::form::Form;
use super::scope::{AKS_SERVER_APP, Resource, Scopes};
use super::session::{Challenge, Refresh, SignIn};
use super::state::{Shared, State};
use super::{mint, policy, random};

const CODE_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// A refresh token that nobody used for so long is gone.
const INACTIVITY: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Shortest and longest lifetime of an access token, in seconds.
const LIFETIME: (u64, u64) = (3600, 5400);

/// Azure's Redis, and how long a token of the app itself lives, in seconds: a day, as for managed identities' tokens.
const STORE_SCOPE: &str = "https://redis.azure.com/.default";
const STORE_LIFETIME: u64 = 86_400;

/// What a grant allows to be issued.
struct Granted {
    sign_in: SignIn,
    scopes: Scopes,
    resource: Resource,
    nonce: Option<String>,
}

/// Redeems an authorization code, once.
pub(crate) fn code(
    shared: &Shared,
    state: &mut State,
    form: &Form,
    presented: &str,
) -> Result<Value, Refusal> {
    let now = shared.time.now();
    let Some(code) = state.codes.get_mut(presented) else {
        return Err(Refusal::new(70_000, "The value of 'code' is not valid."));
    };
    if code.used {
        return Err(Refusal::new(54_005, "The authorization code was redeemed before."));
    }
    if now.duration_since(code.issued) >= CODE_LIFETIME {
        return Err(Refusal::new(70_008, "The authorization code has expired; sign in again."));
    }
    // A code that came with a wrong verifier or address has leaked, or its client is broken: it is spent either way.
    code.used = true;
    let code = code.clone();
    if form.get("redirect_uri") != Some(&code.redirect_uri) {
        let text = "The reply address differs from the one that the code was asked for with.";
        return Err(Refusal::new(500_112, text));
    }
    check_verifier(code.challenge.as_ref(), form.get("code_verifier"))?;
    let scopes = match form.get("scope") {
        Some(scope) => Scopes::parse(scope),
        None if code.scopes.resources().len() > 1 => {
            return Err(Refusal::new(28_003, "The scope is empty, and the code is for several resources."));
        }
        None => code.scopes,
    };
    let granted = grant(shared, state, code.sign_in, scopes, code.nonce)?;
    Ok(issue(shared, state, form, &granted, now))
}

/// Redeems a refresh token, for whatever resource the scope names.
pub(crate) fn refresh_token(
    shared: &Shared,
    state: &mut State,
    form: &Form,
    presented: &str,
) -> Result<Value, Refusal> {
    let now = shared.time.now();
    let refresh = match state.refresh_tokens.get(presented) {
        Some(refresh) if !refresh.dead => refresh.clone(),
        _ => return Err(Refusal::new(70_000, "The value of 'refresh_token' is not valid.")),
    };
    if now.duration_since(refresh.last_used) >= INACTIVITY {
        let text = format!(
            "The refresh token has expired for want of use. It was issued on {} and unused for 90 days.",
            refresh.issued
        );
        return Err(Refusal::new(700_082, text));
    }
    policy::check_account(state, &refresh.sign_in)?;
    policy::check_frequency(&state.policy, refresh.sign_in.auth_time, now)?;
    let mut scopes = form.get("scope").map_or(refresh.scopes, Scopes::parse);
    scopes.offline_access &= state.rotates;
    let granted = grant(shared, state, refresh.sign_in, scopes, None)?;
    let strict = state.strict_rotation;
    if let Some(old) = state.refresh_tokens.get_mut(presented) {
        old.last_used = now;
        // Without a successor the old one must live on.
        old.dead = strict && granted.scopes.offline_access;
    }
    Ok(issue(shared, state, form, &granted, now))
}

/// The app's own token for Azure's Redis or the AKS server: no user, no refresh token. What the app may do there is the
/// resource's to say, so no permission need be listed or consented to.
pub(crate) fn client_credentials(shared: &Shared, state: &mut State, form: &Form) -> Result<Value, Refusal> {
    let asked = form.require("scope")?;
    let Some(resource) = asked.strip_suffix("/.default") else {
        let text = format!("The scope '{asked}' is not valid: an app asks for '/.default' of a resource.");
        return Err(Refusal::new(1_002_012, text));
    };
    let (is_store, is_aks) = (asked == STORE_SCOPE, resource == AKS_SERVER_APP && state.policy.present);
    if !is_store && !is_aks {
        return Err(Refusal::new(500_011, format!("The tenant has no resource '{resource}'.")));
    }
    let lifetime = state.lifetime.map_or(STORE_LIFETIME, |fixed| fixed.as_secs());
    let token = mint::app_token(shared, state, resource, i64::try_from(lifetime).unwrap_or(86_400));
    state.record.secret(&token);
    if is_store {
        state.store_tokens.push(token.clone());
    }
    Ok(json!({
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": token,
    }))
}

/// Scope and policy checks.
fn grant(
    shared: &Shared,
    state: &State,
    sign_in: SignIn,
    scopes: Scopes,
    nonce: Option<String>,
) -> Result<Granted, Refusal> {
    let resource = scopes.single_resource()?;
    policy::check_resource(shared, &state.policy, &scopes, &resource)?;
    policy::check_silent(shared, state, &sign_in, &resource)?;
    Ok(Granted { sign_in, scopes, resource, nonce })
}

fn check_verifier(challenge: Option<&Challenge>, verifier: Option<&str>) -> Result<(), Refusal> {
    let fits = match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) if challenge.s256 => {
            let sum = digest::digest(&digest::SHA256, verifier.as_bytes());
            URL_SAFE_NO_PAD.encode(sum) == challenge.value
        }
        (Some(challenge), Some(verifier)) => verifier == challenge.value,
        (None, Some(_)) | (Some(_), None) => false,
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::new(
        501_481,
        "The code_verifier does not fit the code_challenge of the authorization request.",
    ))
}

/// Nothing is refused any more: makes the tokens and remembers them.
fn issue(shared: &Shared, state: &mut State, form: &Form, granted: &Granted, now: Timestamp) -> Value {
    let Granted { sign_in, scopes, resource, nonce } = granted;
    let user = policy::check_account(state, sign_in).expect("the account was checked a moment ago").clone();
    let lifetime =
        state.lifetime.map_or_else(|| random::between(LIFETIME.0, LIFETIME.1), |fixed| fixed.as_secs());
    let access_token = match resource {
        Resource::Aks => {
            mint::aks_token(shared, state, &user, sign_in, i64::try_from(lifetime).unwrap_or(86_400))
        }
        Resource::Graph | Resource::Unknown(_) => format!("EwB{}", random::token(900)),
    };
    state.record.secret(&access_token);
    let mut body = json!({
        "token_type": "Bearer",
        "scope": scopes.granted(resource),
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": access_token,
    });
    if let Some(after) = state.refresh_in {
        body["refresh_in"] = json!(after.as_secs());
    }
    if scopes.offline_access {
        let token = random::grant(1000);
        state.record.secret(&token);
        let scopes = Scopes { permissions: Vec::new(), ..scopes.clone() };
        let refresh = Refresh { sign_in: sign_in.clone(), scopes, issued: now, last_used: now, dead: false };
        state.refresh_tokens.insert(token.clone(), refresh);
        body["refresh_token"] = json!(token);
    }
    if scopes.openid
        && let Some(token) = mint::id_token(shared, state, &user, sign_in, scopes, nonce.as_deref())
    {
        state.record.secret(&token);
        body["id_token"] = json!(token);
    }
    if form.get("client_info") == Some("1") {
        body["client_info"] = json!(user.client_info());
    }
    body
}
