//! The record of one exchange: who asked for what, when, and what came of it. The log line, the metrics of requests and
//! the audit events and the spans of a trace are made from it.
//!
//! It lives as long as the exchange: an answer's body and a tunnel hold it until their last byte. A client that leaves
//! before there is an answer is recorded as status 499, as nginx does.

mod recording;
mod sinks;
mod spans;
mod text;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HeaderValue;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use self::recording::Recording;
pub(crate) use self::recording::session_ended;
pub(crate) use self::sinks::Sinks;
use self::spans::Spans;
use crate::audit::{CLIENT_GONE, Outcome};
pub(crate) use crate::http::headers::AUDIT_ID;
use crate::json::key;
use crate::metrics::labels;
use crate::route::{AtMount, Facts, MountPath, Route, method_name};
use crate::secret::{random_guid, without_tokens};
use crate::session::{Credential, Session};
use crate::{json, log};

const MAX_AUDIT_ID_BYTES: usize = 64;

/// One exchange. What becomes known on the way is noted through a shared reference, so that each stage can hold one.
#[derive(Debug)]
pub(crate) struct Record {
    started: Instant,
    audit_id: HeaderValue,
    method: Method,
    uri: Uri,
    client: IpAddr,
    /// `None` for a page of ours.
    facts: Option<Arc<Facts>>,
    user: OnceLock<(Arc<Credential>, Arc<Session>)>,
    /// The page's name; empty where it is none.
    page: &'static str,
    /// The host of the mounted dashboard that was asked.
    mount: Option<Arc<str>>,
    /// How long the API server had it, in microseconds; 0 when it never did.
    upstream_us: AtomicU64,
    is_answered: AtomicBool,
    sinks: Arc<Sinks>,
    /// `None`: there is no tracing.
    spans: Option<Box<Spans>>,
    /// `None`: there is no audit log.
    recording: Option<Box<Recording>>,
}

/// An error of ours that an exchange was answered with.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// As in the `Entrada-Reason` header.
    pub(crate) reason: &'static str,
    /// The `reason` of its `metav1.Status`.
    pub(crate) kubernetes_reason: &'static str,
    /// What the client is told.
    pub(crate) sentence: Box<str>,
}

impl Refusal {
    /// As the audit log tells it.
    #[must_use]
    pub(crate) fn outcome(&self) -> Outcome<'_> {
        Outcome {
            reason: Some(self.reason),
            told: Some((self.kubernetes_reason, &self.sentence)),
            ..Outcome::of(self.status)
        }
    }
}

impl Record {
    /// Begins with a request's head. `client` is the address that trusted proxies vouch for.
    #[must_use]
    pub(crate) fn begin(
        parts: &Parts,
        route: &Route,
        audit_id: HeaderValue,
        client: IpAddr,
        sinks: Arc<Sinks>,
    ) -> Self {
        let (facts, page, mount) = match route {
            Route::Kubernetes(facts) => (Some(facts.clone()), "", None),
            Route::Page(page) => (None, page.name(), None),
            Route::WrongMethod(_) => (None, "wrong_method", None),
            Route::Preflight => (None, "preflight", None),
            Route::TwoHosts => (None, "two_hosts", None),
            Route::Mount(at) => (None, at.path.name(), Some(at.host.clone())),
        };
        let recording = match route {
            // What a dashboard then asks the API server for is recorded, and its own pages are not the cluster's.
            Route::Mount(AtMount { path: MountPath::Dashboard, .. }) => None,
            _ => Recording::begin(&sinks.audit, parts, client, facts.is_none()),
        };
        Self {
            started: Instant::now(),
            audit_id,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            client,
            recording,
            facts,
            user: OnceLock::new(),
            page,
            mount,
            upstream_us: AtomicU64::new(0),
            is_answered: AtomicBool::new(false),
            spans: sinks.tracer.as_ref().map(|tracer| Spans::begin(tracer, parts, route)),
            sinks,
        }
    }

    /// The record of a question of our own to the API server, asked for this page as its visitor: an exchange of its own,
    /// with an id of its own, so that the API server's log and ours both tell of it.
    #[must_use]
    pub(crate) fn question(&self, question: &mut Parts) -> Self {
        Self {
            started: Instant::now(),
            audit_id: audit_id(&mut question.headers),
            method: question.method.clone(),
            uri: question.uri.clone(),
            client: self.client,
            recording: Recording::begin(&self.sinks.audit, question, self.client, false),
            facts: Some(Arc::new(Facts::of(question))),
            user: OnceLock::new(),
            page: "",
            mount: None,
            upstream_us: AtomicU64::new(0),
            is_answered: AtomicBool::new(false),
            sinks: self.sinks.clone(),
            spans: None,
        }
    }

    /// The id under which the API server and we log this request.
    #[must_use]
    pub(crate) fn audit_id(&self) -> &HeaderValue {
        &self.audit_id
    }

    /// The client's address.
    #[must_use]
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }

    /// Notes with which credential of which session, and so by whom, the request is made.
    pub(crate) fn identified(&self, credential: &Arc<Credential>, session: &Arc<Session>) {
        // An exchange has one credential; the first one noted is it.
        let _noted_already = self.user.set((credential.clone(), session.clone()));
    }

    /// The request is about to be sent to the API server at `to`: tells it with these headers which trace it belongs to.
    pub(crate) fn sending(&self, headers: &mut HeaderMap, to: &Authority) {
        if let Some(spans) = &self.spans {
            spans.sending(headers, to);
        }
    }

    /// So long it took from when the request was sent upstream to the head of the answer, the client's sending included.
    pub(crate) fn upstream_took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.upstream_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// The answer's head is ready: counts and logs the exchange. `refusal`: it is an error of ours.
    pub(crate) fn answered(&self, status: StatusCode, refusal: Option<Refusal>) {
        self.is_answered.store(true, Ordering::Relaxed);
        let reason = refusal.as_ref().map(|refusal| refusal.reason);
        self.tell(status.as_u16(), reason);
        if let Some(spans) = &self.spans {
            spans.answered(self.started.elapsed(), status.as_u16(), reason);
        }
        if let Some(recording) = &self.recording {
            recording.answered(&self.sinks.audit, status.as_u16(), refusal);
        }
    }

    fn tell(&self, status: u16, reason: Option<&'static str>) {
        let elapsed = self.started.elapsed();
        self.count(status, elapsed);
        // One look at a number; the filter itself is asked with the event.
        if LevelFilter::current() >= LevelFilter::INFO {
            json::with_line(|fields| {
                self.write_fields(fields, status, reason, elapsed);
                tracing::info!({ log::FIELDS } = str::from_utf8(fields).unwrap_or_default(), "request");
            });
        }
    }

    /// What the log says of the exchange, as JSON.
    fn write_fields(&self, fields: &mut Vec<u8>, status: u16, reason: Option<&str>, elapsed: Duration) {
        known(fields, key!("method"), self.method.as_str());
        // Never the query: codes and states of sign-ins stand there.
        sent(fields, key!("path"), self.uri.path());
        if let Some(facts) = &self.facts {
            known(fields, key!("verb"), facts.verb);
            sent(fields, key!("group"), facts.group());
            sent(fields, key!("resource"), facts.resource());
            sent(fields, key!("subresource"), facts.subresource());
            sent(fields, key!("namespace"), facts.namespace());
            sent(fields, key!("name"), facts.name());
        }
        known(fields, key!("mount"), self.mount.as_deref().unwrap_or_default());
        if let Some((credential, _)) = self.user.get() {
            fields.extend_from_slice(&text::of_credential(credential).log);
        }
        fields.extend_from_slice(key!("status").as_bytes());
        json::number(fields, status.into());
        known(fields, key!("reason"), reason.unwrap_or_default());
        fields.extend_from_slice(key!("seconds").as_bytes());
        json::seconds(fields, elapsed);
        fields.extend_from_slice(key!("client").as_bytes());
        json::address(fields, self.client);
        known(fields, key!("audit_id"), self.audit_id.to_str().unwrap_or_default());
    }
}

impl Record {
    fn count(&self, status: u16, elapsed: Duration) {
        let metrics = &self.sinks.metrics;
        let seconds = &metrics.request_seconds;
        let (kind, seconds, verb, resource) = match &self.facts {
            Some(facts) => {
                let resource = labels::resource(facts.group(), facts.resource());
                ("kubernetes", &seconds.kubernetes, facts.verb, resource)
            }
            None if self.page.is_empty() => ("dashboard", &seconds.dashboard, method_name(&self.method), ""),
            None => ("page", &seconds.page, method_name(&self.method), self.page),
        };
        if let Some(mount) = &self.mount {
            metrics.mount_requests.with_label_values(&[&**mount, labels::code(status)]).inc();
        }
        metrics.requests.with_label_values(&[kind, verb, resource, labels::code(status)]).inc();
        seconds.observe(elapsed.as_secs_f64());
        let upstream = Duration::from_micros(self.upstream_us.load(Ordering::Relaxed));
        if !upstream.is_zero() {
            metrics.added_seconds.observe(elapsed.saturating_sub(upstream).as_secs_f64());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_answered.load(Ordering::Relaxed) {
            let (status, reason) = unanswered();
            self.tell(status, Some(reason));
        }
        if let Some(spans) = &self.spans {
            spans.end(self);
        }
        if let Some(recording) = &self.recording {
            recording.complete(&self.sinks.audit);
        }
    }
}

/// What to say of an exchange that ends before there is an answer: its client went away, or its handler panicked, which
/// the layers around it answer with 500.
fn unanswered() -> (u16, &'static str) {
    if std::thread::panicking() { (500, "internal_error") } else { (CLIENT_GONE, "client_gone") }
}

/// A field of the log line, if there is something to say.
fn known(fields: &mut Vec<u8>, key: &str, value: &str) {
    if !value.is_empty() {
        json::field(fields, key, value);
    }
}

/// The same of what a client has sent, in which somebody may have pasted a token.
fn sent(fields: &mut Vec<u8>, key: &str, value: &str) {
    known(fields, key, &without_tokens(value));
}

/// The caller's audit id, or a new one. It goes upstream and comes back, and stands in both logs.
pub(crate) fn audit_id(headers: &mut HeaderMap) -> HeaderValue {
    let given = headers.get(AUDIT_ID);
    let plain = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= MAX_AUDIT_ID_BYTES
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    let id = given.filter(plain).cloned();
    let id = id.or_else(|| HeaderValue::try_from(random_guid()).ok());
    let id = id.unwrap_or(HeaderValue::from_static("none"));
    headers.insert(AUDIT_ID, id.clone());
    id
}
