//! The one place where errors become responses. Each has a public text, a log text and a side.
//!
//! kubectl and scripts get a `metav1.Status` whose code equals the HTTP status, with `Entrada-Reason`, and a `Warning`
//! where the user can do something: kubectl prints that even where it hides the body. A browser gets a page, or is
//! sent to sign in where that helps.

mod causes;
mod handover;
mod limits;
mod mounts;
mod upstream;
mod words;

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE, WARNING,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Response, StatusCode, Uri};
use http_body_util::Full;
use serde_json::json;

pub(crate) use self::handover::OAuthError;
use self::words::{kubernetes_reason, title};
use crate::clock::in_words;
use crate::http::body::Body;
use crate::identity::Ends;
use crate::metrics::Metrics;
use crate::record::{Record, Refusal};
use crate::route;
use crate::view::{Action, Message, View, protect};

/// The whole answer to a client whose request's head did not become whole in time, which `listen` writes itself: there
/// is no request yet that could be answered.
pub(crate) const HEAD_TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\nentrada-reason: head_too_slow\r\n\r\n";

/// Names the error, so that nobody mistakes it for the API server's.
const ENTRADA_REASON: HeaderName = HeaderName::from_static("entrada-reason");

/// Whose fault it is: decides the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The caller's.
    Client,
    /// Entra's.
    Entra,
    /// The session store's.
    Store,
    /// The API server's, or a dashboard's.
    Upstream,
    /// Ours, or our administrator's.
    Us,
}

/// What the user can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
    /// Nothing in particular.
    None,
    /// Sign in (again).
    SignIn,
    /// Meet a demand in the browser, by signing in again.
    StepUp,
    /// Look at the portal.
    Portal,
}

/// The setting that a request exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Rate,
    SignInRate,
    RequestsPerUser,
    StreamsPerUser,
    UpstreamConnections,
    MountConnections,
    Stall,
}

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct Problem {
    reason: &'static str,
    status: StatusCode,
    side: Side,
    /// Ends with a full stop; says no more than the caller may know.
    sentence: Box<str>,
    /// For the log only.
    log: String,
    help: Help,
    retry_after_seconds: Option<u32>,
    limit: Option<Limit>,
    details: Vec<(&'static str, String)>,
    allow: Option<Box<str>>,
    /// Whatever follows on this connection cannot be trusted to be a request.
    closes: bool,
    /// Told on a page, whatever the client accepts.
    callback: Option<Box<Callback>>,
    /// Told as OAuth's JSON, with this error.
    oauth: Option<OAuthError>,
}

/// What the answer to a callback needs beside the error.
#[derive(Debug)]
struct Callback {
    /// Where the page's link leads back to.
    return_to: String,
    /// `Set-Cookie` values.
    cookies: Vec<HeaderValue>,
}

/// The client, as far as the form of an error depends on it: JSON, a page, or a redirect to sign in.
#[derive(Debug)]
pub(crate) struct Asker {
    navigates: bool,
    reads_pages: bool,
    presented_bearer: bool,
    /// To come back to. What a form has sent cannot be sent again, so from there to the portal.
    uri: Uri,
}

impl Asker {
    /// Reads a request's head.
    #[must_use]
    pub(crate) fn of(parts: &Parts) -> Self {
        let reads_pages = route::wants_page(&parts.headers);
        Self {
            navigates: reads_pages && route::is_navigation(parts),
            reads_pages,
            presented_bearer: parts.headers.contains_key(http::header::AUTHORIZATION),
            uri: if parts.method.is_safe() { parts.uri.clone() } else { Uri::default() },
        }
    }

    fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", PathAndQuery::as_str)
    }
}

impl Limit {
    /// The setting's name, in lower case and without `ENTRADA_`: a metric's label.
    fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate_limit",
            Self::SignInRate => "signin_rate_limit",
            Self::RequestsPerUser => "max_requests_per_user",
            Self::StreamsPerUser => "max_streams_per_user",
            Self::UpstreamConnections => "max_upstream_connections",
            Self::MountConnections => "mount_connections",
            Self::Stall => "stall_timeout",
        }
    }
}

impl Problem {
    fn new(status: StatusCode, reason: &'static str, side: Side, sentence: impl Into<String>) -> Self {
        Self {
            reason,
            status,
            side,
            sentence: sentence.into().into(),
            log: String::new(),
            help: Help::None,
            retry_after_seconds: None,
            limit: None,
            details: Vec::new(),
            allow: None,
            closes: false,
            callback: None,
            oauth: None,
        }
    }

    /// The same, and the connection on which it goes ends with it.
    #[must_use]
    pub(crate) fn closing_connection_if(mut self, closes: bool) -> Self {
        self.closes |= closes;
        self
    }

    /// What is recorded of it.
    #[must_use]
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal {
            status: self.status.as_u16(),
            reason: self.reason,
            kubernetes_reason: kubernetes_reason(self.status),
            sentence: self.sentence.clone(),
        }
    }

    /// Told on a page, also to a client that did not ask for one: who comes back from Entra is a person in a browser.
    /// The page's link leads back to `return_to`.
    #[must_use]
    pub(crate) fn on_a_page(self, return_to: String, cookies: Vec<HeaderValue>) -> Self {
        Self { callback: Some(Box::new(Callback { return_to, cookies })), ..self }
    }

    /// Counts it and writes the log line: at level `info` for what is the client's, `warn` for Entra, the store and the
    /// API server, `error` for what is ours.
    pub(crate) fn note(&self, record: &Record, metrics: &Metrics) {
        metrics.problems.with_label_values(&[self.reason]).inc();
        if let Some(limit) = self.limit {
            metrics.limits_hit.with_label_values(&[limit.label()]).inc();
        }
        let audit_id = record.audit_id().to_str().unwrap_or_default();
        let (reason, status, cause) = (self.reason, self.status.as_u16(), self.log.as_str());
        match self.side {
            Side::Client => tracing::info!(reason, status, cause, audit_id, "request refused"),
            Side::Entra | Side::Store | Side::Upstream => {
                tracing::warn!(reason, status, cause, audit_id, side = ?self.side, "request failed");
            }
            Side::Us => tracing::error!(reason, status, cause, audit_id, "request failed"),
        }
    }

    /// The response in the form that the asker can use.
    pub(crate) fn respond(&self, asker: &Asker, view: &View) -> Response<Body> {
        let sends_to_sign_in = self.leads_to_sign_in() && asker.navigates && !asker.presented_bearer;
        let mut response = if let Some(callback) = &self.callback {
            self.page(view, &callback.return_to)
        } else if let Some(error) = self.oauth {
            self.oauth_error(error)
        } else if sends_to_sign_in {
            redirect(&view.public_url().join(&login_path(asker.target())))
        } else if asker.reads_pages && !asker.presented_bearer {
            self.page(view, asker.target())
        } else {
            self.status_object(view)
        };
        let headers = response.headers_mut();
        headers.insert(ENTRADA_REASON, HeaderValue::from_static(self.reason));
        for cookie in self.callback.iter().flat_map(|callback| &callback.cookies) {
            headers.append(SET_COOKIE, cookie.clone());
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The page for a person, with a link that starts anew.
    fn page(&self, view: &View, return_to: &str) -> Response<Body> {
        let action = match self.help {
            // Nothing in particular helps, but no page is a dead end.
            Help::None | Help::Portal => Action { label: "Open the portal", href: view.home() },
            // A dashboard's address leads to the sign-in by itself.
            Help::SignIn | Help::StepUp if view.is_at_mount() || return_to.starts_with("https://") => {
                Action { label: "Sign in", href: return_to.to_owned() }
            }
            Help::SignIn => Action { label: "Sign in", href: login_path(return_to) },
            Help::StepUp => Action { label: "Continue", href: login_path(return_to) },
        };
        let message = Message {
            title: title(self.status, self.help),
            sentence: &self.sentence,
            details: &self.details,
            action,
        };
        view.message(self.status, &message)
    }

    fn status_object(&self, view: &View) -> Response<Body> {
        let message = match self.advice(view) {
            Some(advice) => format!("{} {advice}", self.sentence),
            None => self.sentence.to_string(),
        };
        let mut object = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": kubernetes_reason(self.status),
            "code": self.status.as_u16(),
        });
        if let Some(seconds) = self.retry_after_seconds {
            object["details"] = json!({ "retryAfterSeconds": seconds });
        }
        let mut response = json_response(self.status, &object);
        let headers = response.headers_mut();
        if self.help != Help::None {
            warn(headers, &message);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn advice(&self, view: &View) -> Option<String> {
        let login = || view.login();
        match self.help {
            Help::None => None,
            Help::SignIn => Some(format!("Sign in again: {}", login())),
            Help::StepUp => Some(format!("Continue in a browser: {}", login())),
            Help::Portal => Some(format!("See {}", view.public_url().join("/"))),
        }
    }
}

/// Adds to an answer of the API server what its user can do about its 401.
pub(crate) fn advise_sign_in(headers: &mut HeaderMap, view: &View) {
    let login = view.public_url().join("/login");
    warn(headers, &format!("The cluster does not accept your sign-in any more. Sign in again: {login}"));
}

/// Adds to an answer of the API server that something of its user's ends soon, and where to renew it.
pub(crate) fn advise_end(headers: &mut HeaderMap, view: &View, what: Ends, left: Duration) {
    let left = in_words(left);
    let url = view.public_url();
    warn(
        headers,
        &match what {
            Ends::Session => format!("Your sign-in ends {left}. Sign in again: {}", url.join("/login")),
            Ends::Token => format!("Your token ends {left}. Make a new one: {}", url.join("/")),
        },
    );
}

fn warn(headers: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::from_str(&warning(text)) {
        headers.append(WARNING, value);
    }
}

/// A JSON answer of our own.
#[must_use]
pub(crate) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    protect(response.headers_mut());
    response
}

/// A redirect with status 302.
#[must_use]
pub(crate) fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    protect(response.headers_mut());
    response
}

/// What a client is told when our code panicked while it handled the request. It needs nothing that could fail again.
pub(crate) fn panicked() -> Response<Full<Bytes>> {
    tracing::error!("a request's handler panicked");
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Something went wrong in Entrada.","reason":"InternalError","code":500}"#;
    let mut response = Response::new(Full::from(status));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let headers = response.headers_mut();
    headers.insert(ENTRADA_REASON, HeaderValue::from_static("internal_error"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Where to sign in and come back from.
#[must_use]
fn login_path(return_to: &str) -> String {
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", return_to).finish();
    format!("/login?{query}")
}

/// RFC 9111 section 5.5: 299 is a lasting warning for the user; the text is a quoted string.
fn warning(text: &str) -> String {
    let plain: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    format!("299 - \"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}
