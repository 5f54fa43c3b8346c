//! What Entra's errors mean for us. A listed code decides; for an unknown one `error` and `suberror` do. The wording of
//! a description never decides: a redirect brings its code and correlation id inside it, and only these two are read.
//!
//! Source of the codes: Microsoft's "Microsoft Entra authentication and authorization error codes", and captures.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::http::{CallError, Reply};

/// What has to happen before the same request can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The user signs in again; the refresh token is of no use any more.
    SignIn,
    /// As `SignIn`, and somebody wanted it so (revoked, disabled, deleted): what hung on the session is void for ever.
    Revoked,
    /// The user meets a policy's demand in the browser, once.
    StepUp,
    /// A policy keeps the user out; the session stays, because the policy may change.
    Blocked,
    /// An administrator must change something about us, which concerns everybody; never the session's end.
    Admin,
    /// An administrator must change something that may concern this user alone, such as consent.
    AdminForUser,
    /// It passes by itself.
    Transient,
}

/// An error answer of Entra, or no answer at all.
#[derive(Clone, Debug, Error, Serialize, Deserialize)]
#[error("{class:?}: {error} (AADSTS{}, correlation {correlation_id})", code.unwrap_or(0))]
pub(crate) struct EntraFault {
    /// What to do.
    pub(crate) class: Class,
    /// One sentence for the user.
    pub(crate) sentence: String,
    /// The AADSTS number, where one came.
    pub(crate) code: Option<u32>,
    /// The protocol's `error`, or our own word for a call that brought none.
    pub(crate) error: String,
    /// What an administrator needs to find the event in Entra's sign-in log.
    pub(crate) correlation_id: String,
    /// Entra's trace id.
    pub(crate) trace_id: Option<String>,
    /// The demand to present at the next authorization request, as it came.
    pub(crate) claims: Option<String>,
    /// How long Entra asked us to wait.
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    error: String,
    #[serde(default)]
    suberror: Option<String>,
    #[serde(default)]
    error_codes: serde_json::Value,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default)]
    trace_id: Option<String>,
    #[serde(default)]
    claims: Option<String>,
}

/// A claims challenge is a few hundred bytes; it travels in an address, so it must stay small.
const MAX_CLAIMS_BYTES: usize = 4_096;

const TRY_LATER: &str = "Microsoft Entra does not answer right now. Nothing is lost; try again in a minute.";
const UNUSABLE: &str = "Microsoft Entra's answer could not be used. Nothing is lost; try again in a minute.";
const NO_ASSERTION: &str =
    "Entrada cannot read its own workload-identity token. An administrator must check the pod.";
const SIGN_IN: &str = "Your sign-in has ended.";
const STEP_UP: &str = "Your organisation asks for extra verification before you may use this cluster.";
const DEVICE: &str = "Your organisation asks for a managed device or an approved app.";
const BLOCKED: &str = "A Conditional Access policy of your organisation blocks this access. \
                       Give your IT support the correlation id.";
const NOT_ASSIGNED: &str =
    "You are not assigned to this application. Ask an administrator to assign you to it.";
const WRONG_ACCOUNT: &str = "This account does not belong to the cluster's organisation. \
                             Use your work account, or ask to be invited as a guest.";
const CONSENT: &str = "An administrator must first grant this application access to \
                       \"Azure Kubernetes Service AAD Server\" (user.read).";
const NO_AKS: &str =
    "The tenant does not know \"Azure Kubernetes Service AAD Server\" yet; an administrator must add it.";
const REDIRECT: &str =
    "Entrada's redirect URI is not registered for its application; an administrator must add it.";
const WRONG_APP: &str = "Entrada's tenant or application id is wrong, or the application is disabled; \
                         an administrator must correct it.";
const FEDERATION: &str = "Entra does not accept Entrada's workload identity; an administrator must correct \
                          the application's federated credential.";
const CLIENT: &str = "Entra does not accept Entrada as a confidential web application; \
                      an administrator must correct the app registration.";
const INCOMPLETE: &str =
    "Entra's answer lacks what was asked for; an administrator must check the application's permissions.";
const MALFORMED: &str = "Entra refused Entrada's request as malformed; please tell an administrator.";

/// A row of the decision table: codes, what they mean, what the user reads.
type Row = (&'static [u32], Class, &'static str);

/// The decision table, for tests that prove every row of it.
#[must_use]
pub fn error_table() -> &'static [Row] {
    TABLE
}

const TABLE: &[Row] = &[
    (&[65001, 65005, 650_052, 650_056, 650_057, 90094, 90095, 90008], Class::AdminForUser, CONSENT),
    (&[50076, 50079, 50072, 50074, 50078, 50158, 50005], Class::StepUp, STEP_UP),
    (&[53000, 53001, 53002, 50097, 50129, 50131, 50155, 530_032, 530_034, 530_035], Class::StepUp, DEVICE),
    (&[53003, 53004, 53011], Class::StepUp, BLOCKED),
    (&[50173, 50132, 50133, 50057, 50034], Class::Revoked, SIGN_IN),
    (
        &[70043, 70008, 700_082, 700_084, 50089, 50085, 70000, 9_002_313, 700_003, 65004, 50058],
        Class::SignIn,
        SIGN_IN,
    ),
    (&[50053, 50055, 50056, 50126, 51004, 54005, 501_481, 50147, 501_491], Class::SignIn, SIGN_IN),
    (&[50020, 90072, 16000, 16003, 50014, 50177, 50178], Class::Blocked, WRONG_ACCOUNT),
    (&[50105], Class::Blocked, NOT_ASSIGNED),
    (&[50011, 500_112, 500_113, 900_971, 70004], Class::Admin, REDIRECT),
    (
        &[700_016, 700_038, 70001, 700_011, 7_000_112, 90002, 50194, 900_382, 900_432, 900_439],
        Class::Admin,
        WRONG_APP,
    ),
    (&[500_011, 50001], Class::Admin, NO_AKS),
    (
        &[70021, 70025, 700_211, 700_212, 700_213, 90061, 50027, 700_027, 7_000_229, 700_024, 700_229],
        Class::Admin,
        FEDERATION,
    ),
    (&[7_000_218, 7_000_215, 7_000_222, 70002, 700_025, 9_002_326, 9_002_327], Class::Admin, CLIENT),
    (
        &[
            28000, 28002, 28003, 70011, 700_022, 700_023, 1_002_012, 900_144, 90014, 900_561, 90013, 90023,
            700_005,
        ],
        Class::Admin,
        MALFORMED,
    ),
    (&[50196, 90055, 90033, 90006, 90012, 90024, 90090, 50033], Class::Transient, TRY_LATER),
];

impl EntraFault {
    /// A call that brought no answer, or one that no client can read.
    pub(super) fn unreachable(error: &CallError, correlation_id: &str) -> Self {
        Self::of(Class::Transient, TRY_LATER, &error.to_string(), correlation_id)
    }

    /// The pod's projected token cannot be read, so Entra was not asked.
    pub(super) fn no_assertion(why: &str) -> Self {
        Self::of(Class::Admin, NO_ASSERTION, why, "none")
    }

    /// An access token that cannot stand in a header.
    pub(crate) fn unusable_token() -> Self {
        Self::of(Class::Transient, UNUSABLE, "the access token cannot stand in a header", "none")
    }

    /// Discovery has not succeeded yet.
    pub(super) fn not_ready(why: &str, correlation_id: &str) -> Self {
        Self::of(Class::Transient, TRY_LATER, why, correlation_id)
    }

    /// A good answer that lacks what was asked for.
    pub(super) fn incomplete(what: &str) -> Self {
        Self::of(Class::AdminForUser, INCOMPLETE, &format!("the answer has no {what}"), "none")
    }

    /// The error with which Entra sends the browser back, read by the same table. Code and correlation id stand in the
    /// description only.
    pub(super) fn from_redirect(error: &str, description: &str) -> Self {
        let code = number_after(description, "AADSTS");
        let (class, sentence) = code.and_then(listed).unwrap_or_else(|| by_error(error, None, false));
        let correlation = description.split_once("Correlation ID:").map(|(_, rest)| rest.trim_start());
        let correlation = correlation.and_then(|rest| rest.split_whitespace().next()).unwrap_or("none");
        Self { code, ..Self::of(class, sentence, &plain(error), &plain(correlation)) }
    }

    /// Adds the address at which to do what the sentence asks for.
    pub(super) fn with_addresses(mut self, admin_consent: &str, redirect_uri: &str) -> Self {
        let address = match self.sentence.as_str() {
            CONSENT => admin_consent,
            REDIRECT => redirect_uri,
            _ => return self,
        };
        self.sentence = format!("{} {address}", self.sentence);
        self
    }

    /// An answer that is not what was asked for: its status is not 2xx, or its body is not the expected JSON.
    pub(super) fn from_reply(reply: &Reply, correlation_id: &str) -> Self {
        let body: ErrorBody = serde_json::from_slice(&reply.body).unwrap_or_default();
        let status = reply.status;
        let code = first_code(&body.error_codes);
        let passing = status.is_server_error() || status == 429 || status == 408;
        let (class, sentence) = match code.and_then(listed) {
            Some(row) => row,
            // A body without an error of the protocol: a gateway's page, or nothing.
            None if passing || body.error.is_empty() => (Class::Transient, TRY_LATER),
            None => by_error(&body.error, body.suberror.as_deref(), body.claims.is_some()),
        };
        let error = if body.error.is_empty() { format!("status {status}") } else { plain(&body.error) };
        let correlation = body.correlation_id.as_deref().map_or_else(|| correlation_id.to_owned(), plain);
        Self {
            code,
            trace_id: body.trace_id.as_deref().map(plain),
            claims: body.claims.filter(|claims| claims.len() <= MAX_CLAIMS_BYTES),
            retry_after: reply.retry_after(),
            ..Self::of(class, sentence, &error, &correlation)
        }
    }

    fn of(class: Class, sentence: &str, error: &str, correlation_id: &str) -> Self {
        Self {
            class,
            sentence: sentence.to_owned(),
            code: None,
            error: error.to_owned(),
            correlation_id: correlation_id.to_owned(),
            trace_id: None,
            claims: None,
            retry_after: None,
        }
    }
}

fn listed(code: u32) -> Option<(Class, &'static str)> {
    TABLE.iter().find(|(codes, ..)| codes.contains(&code)).map(|(_, class, sentence)| (*class, *sentence))
}

/// For a code that the table lacks.
fn by_error(error: &str, suberror: Option<&str>, has_claims: bool) -> (Class, &'static str) {
    match (error, suberror) {
        ("temporarily_unavailable" | "server_error", _) => (Class::Transient, TRY_LATER),
        (_, Some("consent_required")) | ("consent_required", _) => (Class::AdminForUser, CONSENT),
        (_, Some("bad_token" | "token_expired")) => (Class::SignIn, SIGN_IN),
        (_, Some("basic_action" | "additional_action" | "message_only")) => (Class::StepUp, STEP_UP),
        ("invalid_grant", _) if has_claims => (Class::StepUp, STEP_UP),
        ("interaction_required" | "login_required", _) => (Class::StepUp, STEP_UP),
        ("invalid_grant", _) => (Class::SignIn, SIGN_IN),
        ("invalid_client" | "unauthorized_client", _) => (Class::Admin, CLIENT),
        _ => (Class::AdminForUser, MALFORMED),
    }
}

/// The AADSTS number in the body of an error.
pub(super) fn code_in(body: &[u8]) -> Option<u32> {
    serde_json::from_slice::<ErrorBody>(body).ok().and_then(|body| first_code(&body.error_codes))
}

fn first_code(codes: &serde_json::Value) -> Option<u32> {
    codes.as_array()?.iter().take(8).find_map(|code| u32::try_from(code.as_u64()?).ok())
}

/// The digits that follow `mark` in a description.
pub(super) fn number_after(description: &str, mark: &str) -> Option<u32> {
    let (_, rest) = description.split_once(mark)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What a peer wrote, cut to what may stand in a log line or on a page.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_. ".contains(*c)).take(64).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(status: u16, body: &str) -> EntraFault {
        let status = StatusCode::from_u16(status).unwrap();
        let reply =
            Reply { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) };
        EntraFault::from_reply(&reply, "ours")
    }

    /// A listed code decides, whatever `error` and `suberror` say.
    #[test]
    fn a_listed_code_decides() {
        let fault = answer(400, r#"{"error":"invalid_grant","error_codes":[50173],"suberror":"bad_token"}"#);
        assert_eq!((fault.class, fault.code), (Class::Revoked, Some(50173)));
        let fault = answer(400, r#"{"error":"invalid_grant","error_codes":[50105]}"#);
        assert_eq!(fault.class, Class::Blocked);
    }

    /// Our own client's faults never look like the user's.
    #[test]
    fn invalid_client_is_the_administrators() {
        assert_eq!(answer(401, r#"{"error":"invalid_client","error_codes":[999999]}"#).class, Class::Admin);
        assert_eq!(answer(401, r#"{"error":"invalid_client"}"#).class, Class::Admin);
    }

    /// Answers that are no protocol errors are taken as passing trouble.
    #[test]
    fn gateways_and_silence_are_transient() {
        for (status, body) in [(503, ""), (500, "<html>"), (429, "slow down"), (200, ""), (400, "<html>")] {
            assert_eq!(answer(status, body).class, Class::Transient, "{status} {body:?}");
        }
    }

    /// Each code stands in one row only.
    #[test]
    fn no_code_is_listed_twice() {
        let mut codes: Vec<u32> = TABLE.iter().flat_map(|(codes, ..)| codes.iter().copied()).collect();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }

    /// A redirect's error is read by the same table, and nothing of its text is kept but the ids.
    #[test]
    fn a_redirects_error_is_read_by_the_same_table() {
        let text = "AADSTS50105: <b>blocked</b> Trace ID: t Correlation ID: 1-2-3\r\nTimestamp: now";
        let fault = EntraFault::from_redirect("invalid_grant", text);
        assert_eq!(
            (fault.class, fault.code, fault.correlation_id.as_str()),
            (Class::Blocked, Some(50105), "1-2-3")
        );
        let fault = EntraFault::from_redirect("server_error", "");
        assert_eq!((fault.class, fault.correlation_id.as_str()), (Class::Transient, "none"));
    }

    /// What Entra wrote cannot break a log line.
    #[test]
    fn peers_text_is_made_plain() {
        let fault = answer(400, r#"{"error":"x\r\ny<script>","correlation_id":"a\nb"}"#);
        assert_eq!((fault.error.as_str(), fault.correlation_id.as_str()), ("xyscript", "ab"));
    }
}
