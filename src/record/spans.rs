//! The spans of an exchange, made from its record when it ends: one for the whole of it, and under it one for the time
//! that the API server had it. docs/tracing.md lists what they say.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Version};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{CLIENT_GONE, Record, unanswered};
use crate::clock::after;
use crate::metrics::labels;
use crate::route::{Route, method_name};
use crate::trace::{Kind, Span, Trace, Tracer, Value};

/// Subresources that stand in a span's name. Others are the client's choice, and a name must have few values.
const SUBRESOURCES: [&str; 12] = [
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "scale",
    "status",
    "token",
];

/// What the spans need beside the record.
#[derive(Debug)]
pub(super) struct Spans {
    tracer: Arc<Tracer>,
    trace: Trace,
    began: Timestamp,
    version: Version,
    user_agent: Option<HeaderValue>,
    /// The pattern of our own page's path.
    page: Option<&'static str>,
    /// When it was first sent to the API server, and where that is.
    sent: OnceLock<(Instant, Authority)>,
    answered: OnceLock<Answered>,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    /// Since the exchange's beginning.
    after: Duration,
    status: u16,
    reason: Option<&'static str>,
}

impl Spans {
    pub(super) fn begin(tracer: &Arc<Tracer>, parts: &Parts, route: &Route) -> Box<Self> {
        let page = match route {
            Route::Page(page) => page.pattern(),
            Route::Mount(at) => at.path.pattern(),
            Route::WrongMethod(_) | Route::Preflight | Route::TwoHosts | Route::Kubernetes(_) => None,
        };
        Box::new(Self {
            tracer: tracer.clone(),
            trace: tracer.trace(&parts.headers),
            began: tracer.now(),
            version: parts.version,
            user_agent: parts.headers.get(USER_AGENT).cloned(),
            page,
            sent: OnceLock::new(),
            answered: OnceLock::new(),
        })
    }

    /// The request is about to be sent with these headers.
    pub(super) fn sending(&self, headers: &mut HeaderMap, to: &Authority) {
        self.trace.set(headers);
        // A request that is sent again stays the same span.
        let _sent_before = self.sent.set((Instant::now(), to.clone()));
    }

    pub(super) fn answered(&self, after: Duration, status: u16, reason: Option<&'static str>) {
        let _answered_before = self.answered.set(Answered { after, status, reason });
    }

    /// The exchange has ended.
    pub(super) fn end(&self, record: &Record) {
        if !self.trace.is_sampled {
            return;
        }
        let elapsed = record.started.elapsed();
        let (status, reason) = unanswered();
        if status != CLIENT_GONE {
            self.answered(elapsed, status, Some(reason));
        }
        let ended = after(self.began, elapsed);
        let (name, address) = (self.name(record), record.client.to_string());
        if let Some((at, authority)) = self.sent.get() {
            let began = after(self.began, at.duration_since(record.started));
            self.tracer.send(&self.client(record, authority, &name, (began, ended)));
        }
        self.tracer.send(&self.server(record, &name, &address, ended));
    }

    fn server<'a>(
        &'a self,
        record: &'a Record,
        name: &'a str,
        address: &'a str,
        ended: Timestamp,
    ) -> Span<'a> {
        let answered = self.answered.get();
        let status = answered.map(|answered| answered.status);
        let reason = self.reason();
        let mut attributes = Vec::with_capacity(20);
        let mut text = |key, value: &'a str| attributes.push((key, Value::Text(value)));
        text("url.scheme", "https");
        // Never the query: codes and states of sign-ins stand there.
        text("url.path", record.uri.path());
        text("http.route", self.page.unwrap_or_default());
        text("client.address", address);
        text("network.protocol.version", version(self.version));
        let user_agent = self.user_agent.as_ref().and_then(|value| value.to_str().ok());
        text("user_agent.original", user_agent.unwrap_or_default());
        text("enduser.id", record.user.get().map_or("", |(credential, _)| &*credential.user.oid));
        text("entrada.audit_id", record.audit_id.to_str().unwrap_or_default());
        text("entrada.reason", reason.unwrap_or_default());
        if let Some(facts) = &record.facts {
            text("entrada.verb", facts.verb);
            text("entrada.group", facts.group());
            text("entrada.resource", facts.resource());
            text("entrada.subresource", facts.subresource());
            text("entrada.name", facts.name());
            text("k8s.namespace.name", facts.namespace());
        }
        let is_error = status.is_some_and(|status| status >= 500);
        if is_error {
            text("error.type", reason.unwrap_or_else(|| labels::code(status.unwrap_or_default())));
        }
        self.method(record, &mut attributes);
        attributes.extend(status.map(|status| ("http.response.status_code", Value::Number(status.into()))));
        Span {
            trace: self.trace.id,
            id: self.trace.server,
            parent: self.trace.parent,
            has_remote_parent: self.trace.parent.is_some(),
            name,
            kind: Kind::Server,
            began: self.began,
            ended,
            attributes,
            event: answered.map(|answered| ("response head", after(self.began, answered.after))),
            is_error,
        }
    }

    fn client<'a>(
        &'a self,
        record: &'a Record,
        to: &'a Authority,
        name: &'a str,
        (began, ended): (Timestamp, Timestamp),
    ) -> Span<'a> {
        // What we answered in its place is no status of the API server's.
        let answered = self.answered.get().filter(|answered| answered.reason.is_none());
        let status = answered.map(|answered| answered.status);
        let is_error = status.is_none_or(|status| status >= 400);
        let mut attributes = vec![
            ("server.address", Value::Text(to.host())),
            ("server.port", Value::Number(to.port_u16().unwrap_or(443).into())),
        ];
        if is_error {
            let why = self.reason().unwrap_or_else(|| labels::code(status.unwrap_or_default()));
            attributes.push(("error.type", Value::Text(why)));
        }
        self.method(record, &mut attributes);
        attributes.extend(status.map(|status| ("http.response.status_code", Value::Number(status.into()))));
        Span {
            trace: self.trace.id,
            id: self.trace.client,
            parent: Some(self.trace.server),
            has_remote_parent: false,
            name,
            kind: Kind::Client,
            began,
            ended,
            attributes,
            event: None,
            is_error,
        }
    }

    fn method<'a>(&self, record: &'a Record, attributes: &mut Vec<(&'static str, Value<'a>)>) {
        if is_known(&record.method) {
            attributes.push(("http.request.method", Value::Text(record.method.as_str())));
        } else {
            attributes.push(("http.request.method", Value::Text("_OTHER")));
            attributes.push(("http.request.method_original", Value::Text(record.method.as_str())));
        }
    }

    /// That of an error of ours, or that the client left before the answer.
    fn reason(&self) -> Option<&'static str> {
        self.answered.get().map_or_else(|| Some(unanswered().1), |answered| answered.reason)
    }

    /// `list pods`, `create pods/exec`, `GET /login`; `GET` alone where the path is anything else.
    fn name(&self, record: &Record) -> String {
        let method = if is_known(&record.method) { record.method.as_str() } else { "HTTP" };
        let Some(facts) = &record.facts else {
            return self.page.map_or_else(|| method.to_owned(), |page| format!("{method} {page}"));
        };
        let resource = labels::resource(facts.group(), facts.resource());
        if resource.is_empty() {
            return method.to_owned();
        }
        let subresource = SUBRESOURCES.iter().find(|known| **known == facts.subresource());
        match subresource {
            None => format!("{} {resource}", facts.verb),
            Some(subresource) => format!("{} {resource}/{subresource}", facts.verb),
        }
    }
}

fn is_known(method: &Method) -> bool {
    method_name(method) != labels::OTHER
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
