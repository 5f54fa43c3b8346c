//! The cluster's service-account issuer, and the app's federated credential that trusts it.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value, json};

use super::Entra;
use super::errors::Refusal;
use super::form::Form;
use super::keys::{Common, SigningKey};
use super::random;
use super::state::{Shared, State};

/// The only `client_assertion_type` there is.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The audience of a federated credential in the public cloud.
const AUDIENCE: &str = "api://AzureADTokenExchange";
/// The subject of the proxy's own service account.
const SUBJECT: &str = "system:serviceaccount:entrada:entrada";
/// How far the clocks of cluster and tenant may differ, in seconds.
const SKEW_SECONDS: i64 = 300;

/// The clusters of one process share a key; an assertion from another tenant's cluster differs in its issuer.
static CLUSTER: Common = Mutex::new(None);

/// The issuer's key, and what the app registration expects of an assertion.
pub(crate) struct Federation {
    pub(crate) cluster_key: Arc<SigningKey>,
    /// Issuer and subject as configured by hand; `None`: the stand-in's own cluster and [`SUBJECT`].
    credential: Option<(String, String)>,
    /// False: the app has no federated credential at all.
    exists: bool,
}

impl Federation {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { cluster_key: SigningKey::common(&CLUSTER, "cluster")?, credential: None, exists: true })
    }
}

/// Verifies the client of a token request, as the real one does for a federated credential.
pub(crate) fn authenticate(shared: &Shared, state: &State, form: &Form) -> Result<(), Refusal> {
    let presented = (form.get("client_assertion_type"), form.get("client_assertion"));
    let (Some(JWT_BEARER), Some(assertion)) = presented else {
        let text = "The request must prove the client: 'client_assertion' (or 'client_secret') is absent.";
        return Err(Refusal::new(7_000_218, text));
    };
    let claims = verified(state, assertion)?;
    let (issuer, subject) = expected(shared, state)?;
    check_times(&claims, shared.time.now())?;
    let no_match = |code, what: &str, presented: &str| {
        let text =
            format!("No federated credential of the app matches the assertion's {what} '{presented}'.");
        Refusal::new(code, text)
    };
    let presented = claims["iss"].as_str().unwrap_or_default();
    if presented != issuer {
        return Err(no_match(700_211, "issuer", presented));
    }
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if audiences != [AUDIENCE] {
        return Err(no_match(700_212, "audience", &audiences.join(" ")));
    }
    let presented = claims["sub"].as_str().unwrap_or_default();
    if presented != subject {
        return Err(no_match(700_213, "subject", presented));
    }
    Ok(())
}

fn expected(shared: &Shared, state: &State) -> Result<(String, String), Refusal> {
    if !state.federation.exists {
        return Err(Refusal::new(70_025, "The app has no federated credential."));
    }
    let own = || (shared.cluster_issuer(), SUBJECT.to_owned());
    Ok(state.federation.credential.clone().unwrap_or_else(own))
}

/// The claims of an assertion whose signature holds. Times and names are checked by the caller.
fn verified(state: &State, assertion: &str) -> Result<Value, Refusal> {
    let malformed = |_| Refusal::new(50_027, "The client assertion is not a well-formed JWT.");
    jsonwebtoken::decode_header(assertion).map_err(malformed)?;
    let mut rules = Validation::new(Algorithm::RS256);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_aud = false;
    let key = state.federation.cluster_key.decoding_key();
    let key = key.ok_or_else(|| Refusal::new(90_061, "The issuer's keys cannot be read."))?;
    let token = jsonwebtoken::decode::<Value>(assertion, &key, &rules).map_err(|_| {
        Refusal::new(700_027, "The client assertion's signature was made by no key of its issuer.")
    })?;
    Ok(token.claims)
}

fn check_times(claims: &Value, now: Timestamp) -> Result<(), Refusal> {
    let seconds = |name: &str| claims[name].as_i64();
    let (from, until) = (seconds("nbf").or_else(|| seconds("iat")).unwrap_or(0), seconds("exp").unwrap_or(0));
    if now.as_second() > until + SKEW_SECONDS || now.as_second() + SKEW_SECONDS < from {
        let text = format!(
            "The client assertion is not valid at this time. Now: {now}, valid from {}, valid until {}.",
            Timestamp::from_second(from).unwrap_or_default(),
            Timestamp::from_second(until).unwrap_or_default(),
        );
        return Err(Refusal::new(700_024, text));
    }
    Ok(())
}

fn claims(shared: &Shared) -> Map<String, Value> {
    let now = shared.time.unix();
    let claims = json!({
        "aud": [AUDIENCE],
        "exp": now + 3600,
        "iat": now,
        "iss": shared.cluster_issuer(),
        "jti": random::guid(),
        "kubernetes.io": {
            "namespace": "entrada",
            "serviceaccount": {"name": "entrada", "uid": "5e71ce00-0000-4000-8000-00000000acc7"},
        },
        "nbf": now,
        "sub": SUBJECT,
    });
    match claims {
        Value::Object(claims) => claims,
        _ => Map::new(),
    }
}

impl Entra {
    /// The issuer of the cluster's service-account tokens, with a trailing slash. Its discovery document and keys
    /// are served below it.
    #[must_use]
    pub fn cluster_issuer(&self) -> String {
        self.shared.cluster_issuer()
    }

    /// A fresh projected service-account token, valid for an hour: the contents of `AZURE_FEDERATED_TOKEN_FILE`.
    #[must_use]
    pub fn assertion(&self) -> String {
        self.assertion_with(|_| ())
    }

    /// A token like [`Entra::assertion`] whose claims were changed before it was signed.
    #[must_use]
    pub fn assertion_with(&self, change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let mut claims = claims(&self.shared);
        change(&mut claims);
        sign(&self.lock().federation.cluster_key, claims)
    }

    /// A token like [`Entra::assertion`], signed by a key that the issuer does not have (700027).
    ///
    /// # Errors
    /// When the key cannot be generated.
    pub fn assertion_of_unknown_key(&self) -> anyhow::Result<String> {
        Ok(sign(&SigningKey::generate("somebody else")?, claims(&self.shared)))
    }

    /// Sets issuer and subject of the app's federated credential; `None` restores the matching ones.
    pub fn set_federated_credential(&self, credential: Option<(&str, &str)>) {
        let mut state = self.lock();
        state.federation.exists = true;
        state.federation.credential =
            credential.map(|(issuer, subject)| (issuer.to_owned(), subject.to_owned()));
    }

    /// Takes the app's federated credential away (70025). [`Entra::set_federated_credential`] brings one back.
    pub fn remove_federated_credential(&self) {
        self.lock().federation.exists = false;
    }
}

fn sign(key: &SigningKey, claims: Map<String, Value>) -> String {
    key.sign(&json!({"alg": "RS256", "kid": key.kid}), &Value::Object(claims))
}
