//! An event as text.
//!
//! Source: `types.go` of k8s.io/apiserver, package `apis/audit/v1`. The fields stand in the order in which the API
//! server writes them. What a client can choose is bounded in length; the annotation `entrada.io/cut` names what was cut.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;

use super::exchange::{Exchange, Object, Outcome, User};
use super::uri::shown;
use crate::json::{Time, address, field, number, plain, string};

/// As the API server bounds it.
const MAX_USER_AGENT_BYTES: usize = 1024;
/// Names of objects have at most 253 characters; what is longer never was one.
const MAX_NAME_BYTES: usize = 1024;
/// The headers that say whom to act as, all together.
const MAX_IMPERSONATED_BYTES: usize = 8 * 1024;
/// Room for nearly every event. It is not given back in part, so that the allocator can hand the same piece to the next
/// one as it is.
const USUAL_BYTES: usize = 1024;
/// Ends what was cut, as in the API server's events.
pub(super) const CUT: &str = "...TRUNCATED";

const IMPERSONATE_USER: &str = "impersonate-user";
const IMPERSONATE_UID: &str = "impersonate-uid";
const IMPERSONATE_GROUP: &str = "impersonate-group";
const IMPERSONATE_EXTRA: &str = "impersonate-extra-";

/// The text of an exchange's events that is the same at each stage.
#[derive(Debug)]
pub(super) struct EventText {
    text: String,
    /// Where the name of the stage belongs.
    stage_at: usize,
    received: Time,
    cut: Cuts,
}

/// What was cut, by the names of the event's fields.
#[derive(Clone, Copy, Debug, Default)]
struct Cuts {
    uri: bool,
    user_agent: bool,
    impersonated: bool,
    object: bool,
}

impl EventText {
    pub(super) fn of(exchange: &Exchange<'_>) -> Self {
        let mut cut = Cuts::default();
        let mut text = String::with_capacity(USUAL_BYTES);
        text.push_str(r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"#);
        string(&mut text, exchange.audit_id);
        text.push_str(r#","stage":""#);
        let stage_at = text.len();
        text.push_str(r#"","requestURI":"#);
        let (uri, uri_cut) = exchange.uri.map_or_else(Default::default, |uri| shown(uri, exchange.is_page));
        cut.uri = uri_cut;
        string(&mut text, &uri);
        field(&mut text, "verb", exchange.verb);
        text.push_str(r#","user":{"#);
        if let Some(user) = &exchange.user {
            write_user(&mut text, user);
        }
        text.push('}');
        if !exchange.is_page {
            cut.impersonated = write_impersonated(&mut text, exchange.headers);
        }
        write_sources(&mut text, exchange.source_ips);
        if let Some(agent) = exchange.headers.get(USER_AGENT) {
            let agent = String::from_utf8_lossy(agent.as_bytes());
            cut.user_agent = bounded_field(&mut text, "userAgent", &agent, MAX_USER_AGENT_BYTES);
        }
        if let Some(object) = &exchange.object {
            cut.object = write_object(&mut text, object);
        }
        text.shrink_to(USUAL_BYTES);
        Self { text, stage_at, received: Time::of(exchange.received), cut }
    }

    /// The event of the stage RequestReceived.
    pub(super) fn write_received(&self, line: &mut String) {
        self.begin(line, "RequestReceived");
        self.end(line, &Outcome::default(), &self.received);
    }

    /// The event of a later stage.
    pub(super) fn write_stage(&self, line: &mut String, stage: &str, outcome: &Outcome<'_>, now: Timestamp) {
        self.begin(line, stage);
        line.push_str(r#","responseStatus":{"#);
        if outcome.status >= 400 {
            line.push_str(r#""status":"Failure","#);
        }
        if let Some((reason, message)) = outcome.told {
            line.push_str(r#""message":"#);
            string(line, message);
            field(line, "reason", reason);
            line.push(',');
        }
        line.push_str(r#""code":"#);
        number(line, outcome.status.into());
        line.push('}');
        self.end(line, outcome, &Time::of(now));
    }

    fn begin(&self, line: &mut String, stage: &str) {
        let (before, after) = self.text.split_at(self.stage_at);
        line.push_str(before);
        line.push_str(stage);
        line.push_str(after);
    }

    fn end(&self, line: &mut String, outcome: &Outcome<'_>, now: &Time) {
        line.push_str(r#","requestReceivedTimestamp":""#);
        line.push_str(self.received.text());
        line.push_str(r#"","stageTimestamp":""#);
        line.push_str(now.text());
        line.push_str(r#"","annotations":{"#);
        let mut first = true;
        let cut = self.cut.names();
        let notes = [
            ("entrada.io/cause", outcome.cause),
            ("entrada.io/cut", cut.as_deref()),
            ("entrada.io/reason", outcome.reason),
        ];
        for (name, value) in notes {
            if let Some(value) = value {
                separate(line, &mut first);
                plain(line, name);
                line.push(':');
                string(line, value);
            }
        }
        if first {
            line.truncate(line.len() - r#","annotations":{"#.len());
        } else {
            line.push('}');
        }
        line.push_str("}\n");
    }
}

impl Cuts {
    fn names(self) -> Option<String> {
        let fields = [
            (self.impersonated, "impersonatedUser"),
            (self.object, "objectRef"),
            (self.uri, "requestURI"),
            (self.user_agent, "userAgent"),
        ];
        let is_cut = fields.iter().any(|(cut, _)| *cut);
        is_cut.then(|| {
            fields.iter().filter(|(cut, _)| *cut).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
        })
    }
}

fn write_user(text: &mut String, user: &User<'_>) {
    text.push_str(r#""username":"#);
    string(text, user.username);
    text.push_str(r#","extra":{"#);
    let (credential, kind) = user.credential.unzip();
    let extra = [
        ("entrada.io/credential", credential),
        ("entrada.io/credential-kind", kind),
        ("entrada.io/oid", Some(user.oid)),
        ("entrada.io/session", user.session),
        ("entrada.io/tid", Some(user.tid)),
    ];
    let mut first = true;
    for (key, value) in extra {
        if let Some(value) = value {
            separate(text, &mut first);
            plain(text, key);
            text.push_str(":[");
            string(text, value);
            text.push(']');
        }
    }
    text.push('}');
}

/// Whom the request asks to act as; whether that is allowed is the API server's to judge. `true`: not all of it is told.
fn write_impersonated(text: &mut String, headers: &HeaderMap) -> bool {
    let asks = |name: &str| name.starts_with("impersonate-");
    if !headers.keys().any(|name| asks(name.as_str())) {
        return false;
    }
    let mut left = MAX_IMPERSONATED_BYTES;
    let mut cut = false;
    // What no longer fits is left out whole: half a name would be another one.
    let mut take = |name: &str, value: &http::HeaderValue| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let fits = left.checked_sub(name.len() + value.len());
        cut |= fits.is_none();
        left = fits.unwrap_or(left);
        fits.map(|_| value)
    };
    let user = headers.get(IMPERSONATE_USER).and_then(|value| take("", value));
    let uid = headers.get(IMPERSONATE_UID).and_then(|value| take("", value));
    let groups: Vec<_> =
        headers.get_all(IMPERSONATE_GROUP).iter().filter_map(|value| take("", value)).collect();
    let mut extra = Vec::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(IMPERSONATE_EXTRA) else { continue };
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| take(key, value)).collect();
        if !values.is_empty() {
            extra.push((super::policy::decoded(key), values));
        }
    }
    text.push_str(r#","impersonatedUser":{"username":"#);
    string(text, user.as_deref().unwrap_or_default());
    if let Some(uid) = uid {
        field(text, "uid", &uid);
    }
    if !groups.is_empty() {
        text.push_str(r#","groups":"#);
        strings(text, groups.iter().map(String::as_str));
    }
    if !extra.is_empty() {
        text.push_str(r#","extra":{"#);
        let mut first = true;
        for (key, values) in &extra {
            separate(text, &mut first);
            string(text, key);
            text.push(':');
            strings(text, values.iter().map(String::as_str));
        }
        text.push('}');
    }
    text.push('}');
    cut
}

fn write_sources(text: &mut String, addresses: &[IpAddr]) {
    if addresses.is_empty() {
        return;
    }
    text.push_str(r#","sourceIPs":["#);
    let mut first = true;
    for source in addresses {
        separate(text, &mut first);
        address(text, *source);
    }
    text.push(']');
}

fn write_object(text: &mut String, object: &Object<'_>) -> bool {
    text.push_str(r#","objectRef":{"#);
    let start = text.len();
    let mut cut = false;
    for (name, value) in [
        ("resource", object.resource),
        ("namespace", object.namespace),
        ("name", object.name),
        ("apiGroup", object.group),
        ("apiVersion", object.version),
        ("subresource", object.subresource),
    ] {
        if !value.is_empty() {
            cut |= bounded_field(text, name, value, MAX_NAME_BYTES);
        }
    }
    // Each field begins with a comma.
    if text.len() > start {
        text.remove(start);
    }
    text.push('}');
    cut
}

/// `,"name":"value"`, and of a value that is longer than `max_bytes` its beginning.
fn bounded_field(text: &mut String, name: &str, value: &str, max_bytes: usize) -> bool {
    if value.len() <= max_bytes {
        field(text, name, value);
        return false;
    }
    let beginning = &value[..value.floor_char_boundary(max_bytes)];
    field(text, name, &format!("{beginning}{CUT}"));
    true
}

fn strings<'s>(text: &mut String, values: impl Iterator<Item = &'s str>) {
    text.push('[');
    let mut first = true;
    for value in values {
        separate(text, &mut first);
        string(text, value);
    }
    text.push(']');
}

fn separate(text: &mut String, first: &mut bool) {
    if !std::mem::take(first) {
        text.push(',');
    }
}
