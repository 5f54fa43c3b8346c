//! The path of one request: record, authenticate, suffer what is scripted, impersonate, authorize, answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use http::header::UPGRADE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::json;

use super::audit::Audit;
use super::auth::{Trust, User};
use super::call::{self, Answer, Call, bytes, is_for_eyes};
use super::cluster::Cluster;
use super::discovery::{self, Resource};
use super::faults::Faults;
use super::query::Query;
use super::rbac::{self, Rule};
use super::record::Record;
use super::status::Failure;
use super::store::uid;
use super::target::Target;
use super::tunnel::{self, Tunnels};
use super::{exec, impersonate, kinds, logs, openapi, portforward, resources, review, watch};
use crate::serve::{Body, Wire};
use crate::time::Time;

const AUDIT_ID: &str = "audit-id";

/// Everything of the server that outlives a restart of its listener.
pub(crate) struct Server {
    pub(crate) trust: Trust,
    pub(crate) time: Time,
    pub(crate) rules: RwLock<Vec<Rule>>,
    pub(crate) not_issued_before: Mutex<Option<i64>>,
    pub(crate) record: Record,
    pub(crate) faults: Faults,
    pub(crate) audit: Audit,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) kinds: AtomicUsize,
}

impl Server {
    pub(crate) async fn handle(
        self: Arc<Self>,
        tunnels: Tunnels,
        mut request: Request<Incoming>,
    ) -> anyhow::Result<Response<Body>> {
        let entry = self.record.add(&request);
        let upgrade = hyper::upgrade::on(&mut request);
        let wire = request.extensions().get::<Wire>().cloned().unwrap_or_default();
        let (head, body) = request.into_parts();
        let audit_id = audit_id(&head);
        let query = Query::parse(head.uri.query());
        let is_indented = is_for_eyes(&head, &query);

        let caller = self.authenticate(&head);
        entry.edit(|own| own.user = caller.as_ref().map(|user| user.name.clone()));
        if let Some(caller) = &caller {
            let target = Target::read(&head.method, head.uri.path(), &query);
            let id = audit_id.to_str().unwrap_or_default();
            entry.audit(self.audit.receive(id, &head, caller, &target));
        }
        let script = self.faults.strike(head.uri.path());
        let answer = match (script.before(&wire).await?, caller) {
            (Some(instead), _) => Ok(instead),
            (None, None) => Err(Failure::unauthorized()),
            (None, Some(caller)) => {
                let target = Target::read(&head.method, head.uri.path(), &query);
                let call = Call { head, body: Some(body), query, target, user: caller, entry: entry.clone() };
                self.answer(call, &tunnels, upgrade).await
            }
        };
        let mut response =
            answer.unwrap_or_else(|failure| call::json(failure.code, &failure.status(), is_indented));
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(AUDIT_ID, audit_id);
        }
        let response = script.after(response);
        entry.answered(response.status().as_u16());
        // The body keeps the entry, and so the exchange counts as open for as long as the body lives.
        Ok(response.map(|body| entry.keep(body)))
    }

    fn authenticate(&self, head: &Parts) -> Option<User> {
        let bound = *self.not_issued_before.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.trust.authenticate(&head.headers, self.time.unix(), bound)
    }

    async fn answer(&self, mut call: Call, tunnels: &Tunnels, upgrade: OnUpgrade) -> Answer {
        let rules = self.rules.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        call.user = impersonate::effective(&rules, &call.user, call.headers())?;
        call.entry.edit(|own| own.acted_as = Some(call.user.name.clone()));
        rbac::authorize(&rules, &call.user, &call.target)?;
        if !call.target.is_resource() {
            return self.answer_path(&call, tunnels, upgrade);
        }
        let target = &call.target;
        if target.group == kinds::GROUP {
            return kinds::answer(&call, self.kinds.load(Ordering::Relaxed));
        }
        let resource = Resource::find(&target.group, &target.version, &target.resource)
            .ok_or_else(Failure::no_such_path)?;
        if !target.subresource.is_empty() {
            return self.answer_subresource(&call, resource, &rules, tunnels, upgrade);
        }
        if matches!(target.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io") {
            review::answer(&mut call, &rules).await
        } else if target.verb == "watch" && asks_for_websocket(call.headers()) {
            watch::over_websocket(&self.cluster, &call, resource, tunnels, upgrade)
        } else {
            resources::answer(&self.cluster, &mut call, resource).await
        }
    }

    fn answer_path(&self, call: &Call, tunnels: &Tunnels, upgrade: OnUpgrade) -> Answer {
        let path = call.target.path.as_str();
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match first {
            "api" | "apis" => discovery::answer(call, self.kinds.load(Ordering::Relaxed)),
            "version" => call.ok(&json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "", "gitTreeState": "clean",
                "buildDate": "2026-10-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
            })),
            "healthz" | "livez" | "readyz" => {
                Ok(bytes(StatusCode::OK, "text/plain; charset=utf-8", "ok"))
            }
            "openapi" => openapi::answer(call),
            "standin" => tunnel::answer(call, tunnels, upgrade),
            _ => Err(Failure::no_such_path()),
        }
    }

    fn answer_subresource(
        &self,
        call: &Call,
        resource: &Resource,
        rules: &[Rule],
        tunnels: &Tunnels,
        upgrade: OnUpgrade,
    ) -> Answer {
        let target = &call.target;
        if !resource.has_subresource(&target.subresource) {
            return Err(Failure::no_such_path());
        }
        let pod = self.cluster.store.get(&resource.key(&target.namespace, &target.name));
        let pod = pod.ok_or_else(|| Failure::not_found(target, &target.name))?;
        match target.subresource.as_str() {
            "log" => return logs::answer(&self.cluster, call, &pod),
            "proxy" => return Ok(page(target)),
            _ => {}
        }
        // Since 1.35 a stream that is opened with GET needs the right to create it as well.
        let create = Target { verb: "create".to_owned(), ..target.clone() };
        rbac::authorize(rules, &call.user, &create)?;
        match target.subresource.as_str() {
            "portforward" => portforward::answer(call, tunnels, upgrade),
            _ => exec::answer(&self.cluster, call, &pod, tunnels, upgrade),
        }
    }
}

/// What every pod serves over HTTP: a page with its own name, as `…/proxy/` shows it.
/// As the API server judges it: any other protocol is passed over, and the watch is an ordinary answer.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn page(target: &Target) -> Response<Body> {
    let html = format!("<!doctype html><title>{0}</title><h1>{0}</h1>\n", target.name);
    let mut response = bytes(StatusCode::OK, "text/html; charset=utf-8", html);
    // The API server adds no caching rules to what a pod says.
    response.headers_mut().remove(http::header::CACHE_CONTROL);
    response
}

fn audit_id(head: &Parts) -> HeaderValue {
    let own = || HeaderValue::from_str(&uid()).expect("a UUID is a header value");
    head.headers.get(AUDIT_ID).cloned().unwrap_or_else(own)
}
