//! The server's own audit log at level Metadata, with the stages of the real one: `WithAudit` of k8s.io/apiserver, package
//! `endpoints/filters`, and the lists of long-running requests that kube-apiserver is built with.
//!
//! Unlike the real one's, an object's name is never taken from a request's body.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use http::HeaderMap;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::auth::User;
use super::target::Target;

const LONG_RUNNING_VERBS: [&str; 2] = ["watch", "proxy"];
const LONG_RUNNING_SUBRESOURCES: [&str; 5] = ["attach", "exec", "proxy", "log", "portforward"];

/// Every event so far, in the order in which they came to be.
#[derive(Clone, Default)]
pub(crate) struct Audit(Arc<watch::Sender<Vec<Value>>>);

/// One request, from where its caller is known. Its end is recorded when this is dropped.
pub(crate) struct Audited {
    audit: Audit,
    event: Value,
    is_long_running: bool,
    code: AtomicU16,
    is_started: AtomicBool,
}

impl Audit {
    pub(crate) fn events(&self) -> Vec<Value> {
        self.0.borrow().clone()
    }

    pub(crate) fn receive(&self, id: &str, head: &Parts, caller: &User, target: &Target) -> Audited {
        let mut event = json!({
            "auditID": id,
            "requestURI": head.uri.path_and_query().map_or("", |own| own.as_str()),
            "verb": target.verb,
            "user": { "username": caller.name },
        });
        if target.is_resource() {
            let parts = [
                ("resource", &target.resource),
                ("namespace", &target.namespace),
                ("name", &target.name),
                ("apiGroup", &target.group),
                ("apiVersion", &target.version),
                ("subresource", &target.subresource),
            ];
            let named = parts.into_iter().filter(|(_, value)| !value.is_empty());
            event["objectRef"] = named.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        }
        if let Some(name) = header(&head.headers, "impersonate-user") {
            event["impersonatedUser"] = json!({ "username": name });
        }
        let is_long_running = LONG_RUNNING_VERBS.contains(&target.verb.as_str())
            || target.is_resource() && LONG_RUNNING_SUBRESOURCES.contains(&target.subresource.as_str());
        let audited = Audited {
            audit: self.clone(),
            event,
            is_long_running,
            code: AtomicU16::new(200),
            is_started: AtomicBool::new(false),
        };
        audited.record("RequestReceived", None);
        audited
    }
}

impl Audited {
    /// The answer's head is written.
    pub(crate) fn start(&self, code: u16) {
        self.code.store(code, Ordering::Relaxed);
        if self.is_long_running && !self.is_started.swap(true, Ordering::Relaxed) {
            self.record("ResponseStarted", Some(code));
        }
    }

    fn record(&self, stage: &str, code: Option<u16>) {
        let mut event = self.event.clone();
        event["stage"] = json!(stage);
        if let Some(code) = code {
            event["responseStatus"] = json!({ "code": code });
        }
        self.audit.0.send_modify(|events| events.push(event));
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        let code = self.code.load(Ordering::Relaxed);
        self.start(code);
        self.record("ResponseComplete", Some(code));
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
