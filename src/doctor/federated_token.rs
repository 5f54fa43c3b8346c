//! The pod's projected token: our identity towards Entra, looked at before Entra is.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::authority::Authority;
use super::finding::{Check, Finding};
use crate::entra::claims_of;

pub(super) const NAME: &str = "federated_token";

/// Those of the public cloud, of the US government's, and of China's.
const AUDIENCES: [&str; 3] =
    ["api://AzureADTokenExchange", "api://AzureADTokenExchangeUSGov", "api://AzureADTokenExchangeChina"];

/// Who the token says that we are.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audience: String,
    expires_at: Option<Timestamp>,
}

/// What is to be said of the token in the file, and its claims; empty where there are none.
pub(super) fn check(file: &Path, authority: &Authority) -> (Check, Claims) {
    let (finding, claims) = match std::fs::read_to_string(file) {
        Ok(text) => {
            let claims = Claims::of(&text);
            (judge(claims.as_ref(), text.len(), authority), claims.unwrap_or_default())
        }
        Err(error) => {
            let seen = format!("{} cannot be read: {error}", file.display());
            let fix = "correct AZURE_FEDERATED_TOKEN_FILE, or the volume that it names";
            (Finding::fault(seen, fix), Claims::default())
        }
    };
    (Check { name: NAME, finding }, claims)
}

impl Claims {
    fn of(text: &str) -> Option<Self> {
        let claims = claims_of(text.trim())?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let audience = match &claims["aud"] {
            Value::Array(all) => all.iter().map(word).collect::<Vec<_>>().join(" "),
            one => word(one),
        };
        let expires_at = claims["exp"].as_i64().and_then(|exp| Timestamp::from_second(exp).ok());
        Some(Self { issuer: word(&claims["iss"]), subject: word(&claims["sub"]), audience, expires_at })
    }
}

fn judge(claims: Option<&Claims>, bytes: usize, authority: &Authority) -> Finding {
    let project = "project a token of the service account with the audience api://AzureADTokenExchange, as the \
                   workload-identity webhook does";
    let Some(Claims { issuer, subject, audience, expires_at }) = claims else {
        return Finding::fault(format!("the file's {bytes} bytes are no JWT"), project);
    };
    if !AUDIENCES.contains(&audience.as_str()) {
        return Finding::fault(format!("its audience is `{audience}`: Entra is not meant"), project);
    }
    let is_account = |subject: &str| {
        let words: Vec<&str> = subject.split(':').collect();
        matches!(words[..], ["system", "serviceaccount", namespace, name] if !namespace.is_empty() && !name.is_empty())
    };
    if !is_account(subject) {
        let seen = format!("its subject is `{subject}`: no service account of Kubernetes");
        return Finding::fault(seen, project);
    }
    if !issuer.starts_with("https://") {
        let fix = "enable the cluster's OIDC issuer: az aks update --enable-oidc-issuer";
        return Finding::fault(format!("its issuer is `{issuer}`, where Entra can fetch no keys"), fix);
    }
    let Some(expires_at) = expires_at else {
        return Finding::fault("it names no time of expiry", project);
    };
    let left = expires_at.duration_since(authority.now).as_secs();
    // With a clock that is wrong nobody can say: the clock is the fault.
    if left <= 0 && !authority.clock.is_fault() {
        let fix = "the kubelet replaces it long before: look at the pod's events; a copy on a laptop must be made anew";
        return Finding::fault(format!("it expired at {expires_at}"), fix);
    }
    Finding::fine(format!("issuer {issuer}, subject {subject}, audience {audience}, expires at {expires_at}"))
}
