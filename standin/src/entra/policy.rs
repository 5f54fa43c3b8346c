//! Consent, Conditional Access and the state of accounts: may this user have a token for this resource?

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Entra;
use super::errors::Refusal;
use super::scope::{AKS_SERVER_APP, Resource, Scopes};
use super::session::SignIn;
use super::state::{Shared, State};
use super::users::User;

/// Stands in every claims challenge; whoever presents it at `/authorize` is asked for a second factor.
const POLICY_ID: &str = "ca9011c7-0000-4000-8000-000000000001";

/// What the administrators decided.
pub(crate) struct Policy {
    /// `user.read` of the AKS server application was granted for everybody.
    pub(crate) consented: bool,
    /// The app registration lists that permission.
    pub(crate) listed: bool,
    /// The AKS server application has a service principal in the tenant.
    pub(crate) present: bool,
    /// AKS demands a second factor.
    pub(crate) mfa: bool,
    /// AKS is blocked for everyone.
    pub(crate) blocked: bool,
    pub(crate) sign_in_frequency: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            consented: true,
            listed: true,
            present: true,
            mfa: false,
            blocked: false,
            sign_in_frequency: None,
        }
    }
}

/// The `claims` of a refusal that a step-up can answer.
pub(crate) fn claims_challenge() -> String {
    json!({"access_token": {"capolids": {"essential": true, "values": [POLICY_ID]}}}).to_string()
}

/// Whether `claims` holds our challenge, alone or merged with something else.
pub(crate) fn answers_challenge(claims: &Value) -> bool {
    let values = claims["access_token"]["capolids"]["values"].as_array();
    values.is_some_and(|values| values.iter().any(|value| value == POLICY_ID))
}

/// Whether the sign-in's user still stands: there, enabled, not revoked since. Returns that user.
pub(crate) fn check_account<'a>(state: &'a State, sign_in: &SignIn) -> Result<&'a User, Refusal> {
    let user = state
        .user(&sign_in.user)
        .ok_or_else(|| Refusal::new(50_034, "The account is not in this directory (any more)."))?;
    if user.disabled {
        return Err(Refusal::new(50_057, "The account is disabled."));
    }
    match user.tokens_valid_from {
        Some(from) if sign_in.auth_time <= from => {
            let text = format!(
                "The grant was revoked; sign in again. It was made at '{}', and what was made before '{from}' is void.",
                sign_in.auth_time
            );
            Err(Refusal::new(50_173, text))
        }
        _ => Ok(user),
    }
}

/// Whether the sign-in is recent enough for the tenant's sign-in frequency.
pub(crate) fn check_frequency(policy: &Policy, auth_time: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    let Some(frequency) = policy.sign_in_frequency else { return Ok(()) };
    let limit = SignedDuration::try_from(frequency).unwrap_or(SignedDuration::MAX);
    if now.duration_since(auth_time) < limit {
        return Ok(());
    }
    let text = format!(
        "The refresh token is older than the sign-in frequency allows. It was issued on {auth_time}; the limit is {} s.",
        limit.as_secs()
    );
    Err(Refusal::new(70_043, text))
}

/// Whether the app may ask for the resource at all, and was granted it.
pub(crate) fn check_resource(
    shared: &Shared,
    policy: &Policy,
    scopes: &Scopes,
    resource: &Resource,
) -> Result<(), Refusal> {
    let absent = |name: &str| {
        let tenant = shared.tenant();
        Refusal::new(
            500_011,
            format!("The resource '{name}' has no service principal in the tenant '{tenant}'."),
        )
    };
    match resource {
        Resource::Graph => return Ok(()),
        Resource::Unknown(name) => return Err(absent(name)),
        Resource::Aks if !policy.present => return Err(absent(AKS_SERVER_APP)),
        Resource::Aks => {}
    }
    let client = &shared.options.client_id;
    if !policy.listed && scopes.aks_default() {
        let text = format!(
            "The app '{client}' asks for a resource that its registration does not list: '{AKS_SERVER_APP}'."
        );
        return Err(Refusal::new(650_057, text));
    }
    if !policy.listed || !policy.consented {
        let name = &shared.options.app_name;
        let text = format!(
            "Nobody consented that the app '{client}' ('{name}') may use the resource for this user."
        );
        return Err(Refusal::new(65_001, text));
    }
    Ok(())
}

/// Whether user and policies allow a token without anybody at the screen.
pub(crate) fn check_silent(
    shared: &Shared,
    state: &State,
    sign_in: &SignIn,
    resource: &Resource,
) -> Result<(), Refusal> {
    let user = check_account(state, sign_in)?;
    if !user.assigned {
        return Err(unassigned(shared));
    }
    if *resource != Resource::Aks {
        return Ok(());
    }
    if let Some(code) = user.refused_with {
        return Err(Refusal::scripted(code));
    }
    if state.policy.blocked {
        return Err(blocked());
    }
    if state.policy.mfa && !sign_in.mfa {
        let text = format!("Policy demands a second factor for '{AKS_SERVER_APP}'.");
        return Err(Refusal::new(50_076, text).with_claims(claims_challenge()));
    }
    Ok(())
}

pub(crate) fn blocked() -> Refusal {
    let text = "Conditional Access blocks this access; no token is issued.";
    Refusal::new(53_003, text).with_claims(claims_challenge())
}

pub(crate) fn unassigned(shared: &Shared) -> Refusal {
    let (client, name) = (&shared.options.client_id, &shared.options.app_name);
    let text =
        format!("The app {name} ('{client}') is only for users assigned to it; '{{EmailHidden}}' is not.");
    Refusal::new(50_105, text)
}

impl Entra {
    /// Grants or withdraws the administrator's consent to AKS (65001).
    pub fn set_admin_consent(&self, granted: bool) {
        self.lock().policy.consented = granted;
    }

    /// Whether the app registration lists the AKS permission (650057 for `.default`, 65001 otherwise).
    pub fn set_aks_listed(&self, listed: bool) {
        self.lock().policy.listed = listed;
    }

    /// Whether the AKS server application has a service principal in the tenant (500011).
    pub fn set_aks_present(&self, present: bool) {
        self.lock().policy.present = present;
    }

    /// Whether AKS demands a second factor (50076). Only an `/authorize` that names AKS, or presents the claims of
    /// the refusal, asks for it; the stand-in's user then always has one at hand.
    pub fn set_mfa_required(&self, required: bool) {
        self.lock().policy.mfa = required;
    }

    /// Whether Conditional Access blocks AKS for everyone (53003).
    pub fn set_blocked(&self, blocked: bool) {
        self.lock().policy.blocked = blocked;
    }

    /// How long a sign-in lasts before refresh tokens answer 70043; `None`: for ever.
    pub fn set_sign_in_frequency(&self, frequency: Option<Duration>) {
        self.lock().policy.sign_in_frequency = frequency;
    }
}
