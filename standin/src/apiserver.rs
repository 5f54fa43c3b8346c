//! A Kubernetes API server with a small memory of objects, real authentication and real RBAC decisions.
//!
//! Its words and shapes follow kube-apiserver 1.36 as kubectl 1.34 sees it: discovery, tables, watches, logs, exec, port-forward.
//! The path of one request is in `handle`; what is served stands in `discovery/*.json`.
//!
//! What it is not: there is no anonymous access, no token in a WebSocket subprotocol, no admission, no validation of
//! specs, no controllers and no kubelet. A pod runs as soon as it is created and is gone as soon as it is deleted; a
//! Deployment is rolled out at once, without pods (`workloads`). Who has set which field is known of objects that were
//! applied by the server (`owners`). It never runs anything on the host: `program` has all that `exec` can run (and
//! `kubectl cp` through it), `files` all that a pod stores, `services` all that listens on its ports. All three are
//! reached over WebSocket and over SPDY/3.1, as kubectls old and new like it.

mod accept;
mod archive;
mod audit;
mod auth;
mod call;
mod channels;
mod cluster;
mod discovery;
mod exec;
mod faults;
mod files;
mod handle;
mod impersonate;
mod kinds;
mod logs;
mod made;
mod openapi;
mod owners;
mod patch;
mod portforward;
mod program;
mod protobuf;
mod query;
mod rbac;
mod record;
mod resources;
mod review;
mod selector;
mod services;
mod spdy;
mod status;
mod store;
mod table;
mod target;
mod tunnel;
mod upgrade;
mod watch;
mod workloads;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::Value;

pub use self::auth::{Trust, User};
pub use self::faults::Fault;
pub use self::rbac::{People, Rule, Subject, default_rules};
pub use self::record::Recorded;

use self::cluster::Cluster;
use self::handle::Server;
use self::store::Key;
pub(crate) use self::store::uid;
use self::tunnel::Tunnels;
use crate::pki::Ca;
use crate::serve::Listener;
use crate::time::Time;

/// A running API server. Dropping it closes the port and every connection.
pub struct ApiServer {
    server: Arc<Server>,
    tls: Arc<rustls::ServerConfig>,
    addr: SocketAddr,
    run: Mutex<Option<Run>>,
}

/// One life of the listener.
struct Run {
    listener: Listener,
    tunnels: Tunnels,
}

impl ApiServer {
    /// Starts on `addr` (port 0: any free one) with a certificate of `ca`, the rules of [`default_rules`], and two
    /// namespaces, `team-a` and `team-b`, each with a pod (`web`, `api`; container `c`) and a config map `settings`.
    ///
    /// # Errors
    /// When the certificate cannot be issued or the port cannot be opened.
    pub async fn start(addr: SocketAddr, ca: &Ca, time: Time, trust: Trust) -> anyhow::Result<Self> {
        let server = Arc::new(Server {
            trust,
            cluster: Arc::new(Cluster::new(time.clone())),
            time,
            rules: RwLock::new(default_rules(&People::default())),
            not_issued_before: Mutex::new(None),
            record: record::Record::default(),
            faults: faults::Faults::default(),
            kinds: AtomicUsize::new(0),
            audit: audit::Audit::default(),
        });
        let tls = ca.issue(&[])?.server_config()?;
        let run = Run::start(addr, &tls, &server).await?;
        let addr = run.listener.addr();
        Ok(Self { server, tls, addr, run: Mutex::new(Some(run)) })
    }

    /// `https://localhost:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// The address that is, or was, listened on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the port, every connection and every tunnel at once, as a killed process would.
    pub async fn kill(&self) {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(run) = run {
            run.listener.kill().await;
            run.tunnels.kill().await;
        }
    }

    /// Listens again on the same port, with the same objects, rules, faults and records.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.kill().await;
        let run = Run::start(self.addr, &self.tls, &self.server).await?;
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
        Ok(())
    }

    /// The requests that were sent so far (the last 50 000), in the order of arrival, refused ones included.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.server.record.all()
    }

    /// The server's own audit events, in the order in which they came to be.
    #[must_use]
    pub fn audit_events(&self) -> Vec<Value> {
        self.server.audit.events()
    }

    /// Waits until the recorded requests satisfy `is_enough`, and returns them: for tests that must not guess a time.
    pub async fn requests_until(&self, is_enough: impl Fn(&[Recorded]) -> bool) -> Vec<Recorded> {
        self.server.record.until(is_enough).await
    }

    /// Asserts that every recorded request bore the token of one of these users.
    ///
    /// # Panics
    /// When one did not, naming it.
    pub fn assert_only_users(&self, names: &[&str]) {
        for request in self.requests() {
            let is_expected = request.user.as_deref().is_some_and(|user| names.contains(&user));
            let Recorded { method, target, user, .. } = &request;
            assert!(is_expected, "{method} {target} came from {user:?}, not from one of {names:?}");
        }
    }

    /// Replaces the rules of RBAC.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        *self.server.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// From now on there are so many more kinds, of which there are no objects, in the category `all`.
    pub fn set_kinds(&self, count: usize) {
        self.server.kinds.store(count, Ordering::Relaxed);
    }

    /// Adds a rule.
    pub fn add_rule(&self, rule: Rule) {
        self.server.rules.write().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// From now on, tokens issued before `bound` are answered 401, as after a revocation.
    pub fn refuse_tokens_issued_before(&self, bound: Option<jiff::Timestamp>) {
        let bound = bound.map(jiff::Timestamp::as_second);
        *self.server.not_issued_before.lock().unwrap_or_else(PoisonError::into_inner) = bound;
    }

    /// Scripts a fault for every request whose path begins with `prefix`.
    pub fn fault(&self, prefix: &str, fault: Fault) {
        self.server.faults.add(prefix, fault, None);
    }

    /// The same, for the next `times` requests only.
    pub fn fault_times(&self, prefix: &str, times: usize, fault: Fault) {
        self.server.faults.add(prefix, fault, Some(times));
    }

    /// Ends all scripted faults.
    pub fn clear_faults(&self) {
        self.server.faults.clear();
    }

    /// Creates a pod of one container, `c`, or resets the one of that name.
    pub fn put_pod(&self, namespace: &str, name: &str) -> Value {
        self.put(cluster::pod(namespace, name)).expect("pods are served")
    }

    /// Creates or replaces any object; `None` for a kind that is not served.
    pub fn put(&self, object: Value) -> Option<Value> {
        self.server.cluster.put(object)
    }

    /// An object, by resource (`pods`), namespace (empty for cluster-wide ones) and name.
    #[must_use]
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.server.cluster.store.get(&key(resource, namespace, name))
    }

    /// Deletes an object; false where there was none.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.server.cluster.delete(&key(resource, namespace, name)).is_ok()
    }

    /// Lets a pod say a line.
    pub fn append_log(&self, namespace: &str, pod: &str, line: &str) {
        self.server.cluster.logs.append(namespace, pod, line);
    }

    /// Forgets the past: a watch from an earlier revision is answered 410 in its stream.
    pub fn forget_history(&self) {
        self.server.cluster.store.forget_history();
    }

    /// Ends every open watch between two events, as the real server does after a while.
    pub fn end_watches(&self) {
        self.server.cluster.watch_ends.send_modify(|count| *count += 1);
    }
}

impl Run {
    async fn start(
        addr: SocketAddr,
        tls: &Arc<rustls::ServerConfig>,
        server: &Arc<Server>,
    ) -> anyhow::Result<Self> {
        let tunnels = Tunnels::default();
        let (own, theirs) = (Arc::clone(server), tunnels.clone());
        let handler = move |request| Arc::clone(&own).handle(theirs.clone(), request);
        let listener = Listener::start(addr, Arc::clone(tls), handler).await?;
        Ok(Self { listener, tunnels })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.tunnels.stop();
    }
}

fn key(resource: &str, namespace: &str, name: &str) -> Key {
    Key { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}
