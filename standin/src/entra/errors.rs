//! Refusals, in the shapes in which Entra tells them.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::random;

/// How an error description separates its text from trace id, correlation id and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorStyle {
    /// By a space, as since 2023.
    #[default]
    Space,
    /// By carriage return and line feed, as older builds do.
    Crlf,
}

/// Why a request is refused: an AADSTS number and a sentence.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    pub(crate) text: String,
    /// A claims challenge: JSON as a string.
    pub(crate) claims: Option<String>,
    error: Option<&'static str>,
}

/// One telling of a refusal: the ids and the time that stand in it.
pub(crate) struct Telling {
    pub(crate) origin: String,
    pub(crate) style: ErrorStyle,
    pub(crate) now: Timestamp,
    pub(crate) trace: String,
    pub(crate) correlation: String,
}

impl Refusal {
    pub(crate) fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), claims: None, error: None }
    }

    /// A refusal that a test asked for by number alone.
    pub(crate) fn scripted(code: u32) -> Self {
        let refusal = Self::new(code, "The stand-in was told to refuse this request.");
        match suberror(code) {
            Some("basic_action" | "message_only" | "device_authentication_failed") => {
                refusal.with_claims(super::policy::claims_challenge())
            }
            _ => refusal,
        }
    }

    pub(crate) fn with_claims(mut self, claims: String) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Says another `error` than the table has for the code, as `/authorize` does with `prompt=none`.
    pub(crate) fn with_error(mut self, error: &'static str) -> Self {
        self.error = Some(error);
        self
    }

    pub(crate) fn error(&self) -> &'static str {
        self.error.unwrap_or_else(|| error(self.code))
    }

    /// The HTTP status at the token endpoint.
    pub(crate) fn status(&self) -> u16 {
        match self.code {
            90_033 | 90_006 | 90_012 | 90_024 | 90_090 | 50_033 => 503,
            90_055 => 429,
            650_057 => 400,
            _ if self.error() == "invalid_client" => 401,
            _ => 400,
        }
    }

    pub(crate) fn description(&self, telling: &Telling) -> String {
        let gap = match telling.style {
            ErrorStyle::Space => " ",
            ErrorStyle::Crlf => "\r\n",
        };
        format!(
            "AADSTS{}: {}{gap}Trace ID: {}{gap}Correlation ID: {}{gap}Timestamp: {}",
            self.code,
            self.text,
            telling.trace,
            telling.correlation,
            telling.stamp(),
        )
    }

    /// The token endpoint's error body.
    pub(crate) fn json(&self, telling: &Telling) -> Value {
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(self.error()));
        body.insert("error_description".to_owned(), json!(self.description(telling)));
        body.insert("error_codes".to_owned(), json!([self.code]));
        body.insert("timestamp".to_owned(), json!(telling.stamp()));
        body.insert("trace_id".to_owned(), json!(telling.trace));
        body.insert("correlation_id".to_owned(), json!(telling.correlation));
        body.insert("error_uri".to_owned(), json!(telling.error_uri(self.code)));
        if let Some(suberror) = suberror(self.code) {
            body.insert("suberror".to_owned(), json!(suberror));
        }
        if let Some(claims) = &self.claims {
            body.insert("claims".to_owned(), json!(claims));
        }
        Value::Object(body)
    }

    /// The parameters of an error redirect, without `state`.
    pub(crate) fn redirect_pairs(&self, telling: &Telling) -> Vec<(&'static str, String)> {
        vec![
            ("error", self.error().to_owned()),
            ("error_description", self.description(telling)),
            ("error_uri", telling.error_uri(self.code)),
        ]
    }
}

impl Telling {
    pub(crate) fn new(origin: &str, style: ErrorStyle, now: Timestamp, correlation: Option<&str>) -> Self {
        let correlation = correlation.map_or_else(random::guid, str::to_owned);
        Self { origin: origin.to_owned(), style, now, trace: random::guid(), correlation }
    }

    fn stamp(&self) -> String {
        self.now.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
    }

    fn error_uri(&self, code: u32) -> String {
        format!("{}/error?code={code}", self.origin)
    }
}

/// The OAuth `error` that goes with a number at the token endpoint. Most of what a user can mend is `invalid_grant`.
fn error(code: u32) -> &'static str {
    match code {
        700_016 | 700_011 | 700_038 | 70_001 | 7_000_112 | 7_000_229 => "unauthorized_client",
        7_000_218 | 7_000_215 | 7_000_222 | 70_002 | 700_025 => "invalid_client",
        50_027 | 70_025 | 700_024 | 700_027 | 700_211 | 700_212 | 700_213 | 90_061 | 650_057 => {
            "invalid_client"
        }
        500_011 | 50_001 => "invalid_resource",
        70_011 | 28_000 | 28_002 | 28_003 | 700_022 | 700_023 | 1_002_012 => "invalid_scope",
        70_003 => "unsupported_grant_type",
        70_005 => "unsupported_response_type",
        900_144 | 9_000_411 | 900_561 | 90_002 | 90_013 | 90_014 | 90_023 | 501_491 => "invalid_request",
        9_002_326 | 9_002_327 | 50_011 | 500_113 | 900_971 | 70_004 | 70_021 => "invalid_request",
        50_194 | 900_382 | 900_432 | 900_439 => "invalid_request",
        50_058 => "login_required",
        16_000 => "interaction_required",
        65_004 => "access_denied",
        90_033 | 90_006 | 90_012 | 90_024 | 90_055 | 90_090 | 50_033 => "temporarily_unavailable",
        _ => "invalid_grant",
    }
}

fn suberror(code: u32) -> Option<&'static str> {
    match code {
        50_005 | 50_072 | 50_074 | 50_076 | 50_078 | 50_079 | 50_158 => Some("basic_action"),
        53_000..=53_004 | 53_011 | 50_131 | 530_032 | 530_034 | 530_035 => Some("message_only"),
        50_097 | 50_129 | 50_155 => Some("device_authentication_failed"),
        65_001 => Some("consent_required"),
        70_043 => Some("token_expired"),
        700_082 | 700_084 | 50_173 | 50_132 | 50_133 => Some("bad_token"),
        50_055 => Some("user_password_expired"),
        _ => None,
    }
}
