//! An event as text.
//!
//! Source: `types.go` of k8s.io/apiserver, package `apis/audit/v1`. The fields stand in the order in which the API
//! server writes them. What a client can choose is bounded in length; the annotation `entrada.io/cut` names what was cut.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;

use super::exchange::{Exchange, Object, Outcome};
use super::uri::shown;
use crate::json::{Time, address, field, key, number, object, string};
use crate::secret::without_tokens;

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
    text: Vec<u8>,
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
        let mut text = Vec::with_capacity(USUAL_BYTES);
        text.extend_from_slice(
            br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"#,
        );
        string(&mut text, exchange.audit_id);
        text.extend_from_slice(br#","stage":""#);
        let stage_at = text.len();
        let (uri, uri_cut) = exchange.uri.map_or_else(Default::default, |uri| shown(uri, exchange.is_page));
        cut.uri = uri_cut;
        field(&mut text, concat!('"', key!("requestURI")), &uri);
        field(&mut text, key!("verb"), exchange.verb);
        text.extend_from_slice(key!("user").as_bytes());
        match &exchange.user {
            Some(user) => user.session.write(&mut text, user.credential),
            None => text.extend_from_slice(b"{}"),
        }
        if !exchange.is_page {
            cut.impersonated = write_impersonated(&mut text, exchange.headers);
        }
        write_sources(&mut text, exchange.source_ips);
        if let Some(agent) = exchange.headers.get(USER_AGENT) {
            let agent = String::from_utf8_lossy(agent.as_bytes());
            cut.user_agent = bounded_field(&mut text, key!("userAgent"), &agent, MAX_USER_AGENT_BYTES);
        }
        if let Some(object) = &exchange.object {
            cut.object = write_object(&mut text, object);
        }
        text.shrink_to(USUAL_BYTES);
        Self { text, stage_at, received: Time::of(exchange.received), cut }
    }

    /// An event's line, in pieces. `end`: what one of the two below has written.
    pub(super) fn line<'a>(&'a self, stage: &'a str, end: &'a [u8]) -> [&'a [u8]; 4] {
        let (before, after) = self.text.split_at(self.stage_at);
        [before, stage.as_bytes(), after, end]
    }

    /// The end of the event of the stage RequestReceived.
    pub(super) fn end_received(&self, end: &mut Vec<u8>) {
        self.end(end, &Outcome::default(), &self.received);
    }

    /// The end of the event of a later stage.
    pub(super) fn end_stage(&self, end: &mut Vec<u8>, outcome: &Outcome<'_>, now: Timestamp) {
        end.extend_from_slice(key!("responseStatus").as_bytes());
        object(end, |end| {
            if outcome.status >= 400 {
                field(end, key!("status"), "Failure");
            }
            if let Some((reason, message)) = outcome.told {
                field(end, key!("message"), message);
                field(end, key!("reason"), reason);
            }
            end.extend_from_slice(key!("code").as_bytes());
            number(end, outcome.status.into());
        });
        self.end(end, outcome, &Time::of(now));
    }

    fn end(&self, end: &mut Vec<u8>, outcome: &Outcome<'_>, now: &Time) {
        end.extend_from_slice(br#","requestReceivedTimestamp":""#);
        end.extend_from_slice(self.received.as_bytes());
        end.extend_from_slice(br#"","stageTimestamp":""#);
        end.extend_from_slice(now.as_bytes());
        end.push(b'"');
        let cut = self.cut.names();
        let notes = [
            (key!("entrada.io/cause"), outcome.cause),
            (key!("entrada.io/cut"), cut.as_deref()),
            (key!("entrada.io/reason"), outcome.reason),
        ];
        if notes.iter().any(|(_, note)| note.is_some()) {
            end.extend_from_slice(key!("annotations").as_bytes());
            object(end, |end| write_known(end, &notes));
        }
        end.extend_from_slice(b"}\n");
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

fn write_known(text: &mut Vec<u8>, fields: &[(&str, Option<&str>)]) {
    for (key, value) in fields {
        if let Some(value) = value {
            field(text, key, value);
        }
    }
}

/// Whom the request asks to act as; whether that is allowed is the API server's to judge. `true`: not all of it is told.
fn write_impersonated(text: &mut Vec<u8>, headers: &HeaderMap) -> bool {
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
    text.extend_from_slice(key!("impersonatedUser").as_bytes());
    object(text, |text| {
        field(text, key!("username"), user.as_deref().unwrap_or_default());
        write_known(text, &[(key!("uid"), uid.as_deref())]);
        if !groups.is_empty() {
            text.extend_from_slice(key!("groups").as_bytes());
            list(text, &groups, |text, group| string(text, group));
        }
        if !extra.is_empty() {
            text.extend_from_slice(key!("extra").as_bytes());
            object(text, |text| {
                for (key, values) in &extra {
                    text.push(b',');
                    string(text, key);
                    text.push(b':');
                    list(text, values, |text, value| string(text, value));
                }
            });
        }
    });
    cut
}

fn write_sources(text: &mut Vec<u8>, addresses: &[IpAddr]) {
    if !addresses.is_empty() {
        text.extend_from_slice(key!("sourceIPs").as_bytes());
        list(text, addresses, |text, source| address(text, *source));
    }
}

fn write_object(text: &mut Vec<u8>, named: &Object<'_>) -> bool {
    let mut cut = false;
    text.extend_from_slice(key!("objectRef").as_bytes());
    object(text, |text| {
        for (key, value) in [
            (key!("resource"), named.resource),
            (key!("namespace"), named.namespace),
            (key!("name"), named.name),
            (key!("apiGroup"), named.group),
            (key!("apiVersion"), named.version),
            (key!("subresource"), named.subresource),
        ] {
            if !value.is_empty() {
                cut |= bounded_field(text, key, value, MAX_NAME_BYTES);
            }
        }
    });
    cut
}

/// A [`key!`] and `"value"` without tokens, and of a value that is longer than `max_bytes` its beginning.
fn bounded_field(text: &mut Vec<u8>, key: &str, value: &str, max_bytes: usize) -> bool {
    let value = &*without_tokens(value);
    if value.len() <= max_bytes {
        field(text, key, value);
        return false;
    }
    let beginning = &value[..value.floor_char_boundary(max_bytes)];
    field(text, key, &format!("{beginning}{CUT}"));
    true
}

fn list<T>(text: &mut Vec<u8>, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for (at, value) in values.iter().enumerate() {
        text.push(if at == 0 { b'[' } else { b',' });
        write(text, value);
    }
    text.push(b']');
}
