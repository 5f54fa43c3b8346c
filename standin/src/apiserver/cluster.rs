//! The cluster behind the API: its objects, what its containers say, and who plays the kubelet.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::discovery::Resource;
use super::files::Files;
use super::logs::Logs;
use super::store::{Key, Refused, Store};
use super::workloads;
use crate::time::Time;

pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) logs: Logs,
    pub(crate) files: Files,
    pub(crate) time: Time,
    /// Counts up when all watches shall end, as the real server ends them after a while.
    pub(crate) watch_ends: watch::Sender<u64>,
}

impl Cluster {
    /// Two teams, each with a running pod and a little configuration.
    pub(crate) fn new(time: Time) -> Self {
        let cluster = Self {
            store: Store::new(time.clone()),
            logs: Logs::new(time.clone()),
            files: Files::default(),
            time,
            watch_ends: watch::Sender::new(0),
        };
        for name in ["default", "kube-system", "team-a", "team-b"] {
            cluster.seed(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
        }
        for (namespace, name) in [("team-a", "web"), ("team-b", "api")] {
            cluster.seed(pod(namespace, name));
            cluster.seed(json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "namespace": namespace, "name": "settings" },
                "data": { "team": namespace },
            }));
            for line in ["starting", "listening on :8080"] {
                cluster.logs.append(namespace, name, line);
            }
        }
        cluster
    }

    fn seed(&self, object: Value) {
        let seeded = self.put(object);
        debug_assert!(seeded.is_some(), "seeds are of kinds that are served");
    }

    /// Creates the object, or replaces the one of that name. `None` for a kind that is not served.
    pub(crate) fn put(&self, mut object: Value) -> Option<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = Resource::of_kind(&text(&object["apiVersion"]), &text(&object["kind"]))?;
        let key = resource.key(&text(&object["metadata"]["namespace"]), &text(&object["metadata"]["name"]));
        self.admit(resource, &mut object);
        let updated = self.store.update::<Refused>(&key, false, |_| Ok(object.clone()));
        updated.or_else(|_| self.store.create(&key, object)).ok()
    }

    /// Fills in what the server defaults and, at once, what scheduler and kubelet would report for a pod.
    pub(crate) fn admit(&self, resource: &Resource, object: &mut Value) {
        object["kind"] = json!(resource.kind);
        object["apiVersion"] = json!(resource.api_version());
        match resource.kind.as_str() {
            "Namespace" => {
                let name = object["metadata"]["name"].clone();
                default(&mut object["metadata"]["labels"], "kubernetes.io/metadata.name", || name);
                default(&mut object["spec"], "finalizers", || json!(["kubernetes"]));
                default(&mut object["status"], "phase", || json!("Active"));
            }
            "Pod" => self.admit_pod(object),
            "Secret" => admit_secret(object),
            _ => workloads::admit(resource, object),
        }
    }

    /// The same for a new version of an object: what the server has filled in stays.
    pub(crate) fn readmit(&self, resource: &Resource, before: &Value, object: &mut Value) {
        if object["status"].is_null() && !before["status"].is_null() {
            object["status"] = before["status"].clone();
        }
        workloads::count_generation(before, object);
        self.admit(resource, object);
    }

    fn admit_pod(&self, pod: &mut Value) {
        let now = self.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        default(pod, "metadata", || json!({}));
        pod["metadata"]["generation"] = json!(1);
        for (field, value) in [
            ("restartPolicy", "Always"),
            ("dnsPolicy", "ClusterFirst"),
            ("nodeName", "node-1"),
            ("schedulerName", "default-scheduler"),
        ] {
            default(&mut pod["spec"], field, || json!(value));
        }
        default(&mut pod["spec"], "terminationGracePeriodSeconds", || json!(30));
        let containers = pod["spec"]["containers"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        for container in &mut *containers {
            default(container, "imagePullPolicy", || json!("IfNotPresent"));
            default(container, "resources", || json!({}));
        }
        let statuses: Vec<Value> = containers
            .iter()
            .map(|container| {
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "",
                    "ready": true, "started": true, "restartCount": 0,
                    "state": { "running": { "startedAt": now } }, "lastState": {},
                })
            })
            .collect();
        for (field, value) in [
            ("phase", json!("Running")),
            ("conditions", json!([{ "type": "Ready", "status": "True", "lastTransitionTime": now }])),
            ("hostIP", json!("10.0.0.4")),
            ("podIP", json!("10.244.0.7")),
            ("podIPs", json!([{ "ip": "10.244.0.7" }])),
            ("startTime", json!(now)),
            ("qosClass", json!("BestEffort")),
            ("containerStatuses", json!(statuses)),
        ] {
            default(&mut pod["status"], field, || value);
        }
    }

    /// Removes the object, what it contains, and what its containers said.
    pub(crate) fn delete(&self, key: &Key) -> Result<Value, Refused> {
        let last = self.store.delete(key)?;
        if key.resource == "namespaces" {
            for resource in Resource::all().iter().filter(|own| own.is_namespaced) {
                for (inner, _) in self.store.list(&resource.qualified(), &key.name).1 {
                    self.delete(&inner)?;
                }
            }
        }
        if key.resource == "pods" {
            self.logs.forget(&key.namespace, &key.name);
            self.files.forget(&key.namespace, &key.name);
        }
        Ok(last)
    }
}

impl Resource {
    pub(crate) fn qualified(&self) -> String {
        super::target::qualified(&self.group, &self.name)
    }

    pub(crate) fn key(&self, namespace: &str, name: &str) -> Key {
        let namespace = if self.is_namespaced { namespace } else { "" };
        Key { resource: self.qualified(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// `stringData` is for writing only.
fn admit_secret(secret: &mut Value) {
    default(secret, "type", || json!("Opaque"));
    let texts = secret.as_object_mut().and_then(|own| own.remove("stringData"));
    for (name, text) in texts.as_ref().and_then(Value::as_object).into_iter().flatten() {
        secret["data"][name] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
}

/// A pod of one container, `c`.
pub(crate) fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": { "app": name } },
        "spec": { "containers": [{ "name": "c", "image": "registry.example.com/app:1" }] },
    })
}

pub(crate) fn default(at: &mut Value, field: &str, value: impl FnOnce() -> Value) {
    if at.get(field).is_none_or(Value::is_null) {
        at[field] = value();
    }
}
