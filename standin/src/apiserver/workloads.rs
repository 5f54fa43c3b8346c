//! What controllers would report of an object, at once: a Deployment is rolled out, a Service has its address, a
//! PodDisruptionBudget is met. No pod is made of it. Pure.

use serde_json::{Value, json};

use super::cluster::default;
use super::discovery::Resource;

pub(crate) fn admit(resource: &Resource, object: &mut Value) {
    match resource.kind.as_str() {
        "Deployment" => deployment(object),
        "Service" => {
            default(&mut object["spec"], "type", || json!("ClusterIP"));
            default(&mut object["spec"], "clusterIP", || json!("10.0.0.10"));
            if object["spec"]["type"] == "LoadBalancer" {
                object["status"]["loadBalancer"]["ingress"] = json!([{ "ip": "10.240.0.10" }]);
            }
        }
        "PodDisruptionBudget" => {
            let generation = generation(object);
            object["status"] = json!({ "observedGeneration": generation, "currentHealthy": 3, "desiredHealthy": 2,
                                       "disruptionsAllowed": 1, "expectedPods": 3 });
        }
        _ => {}
    }
}

fn deployment(object: &mut Value) {
    default(&mut object["spec"], "replicas", || json!(1));
    let (generation, replicas) = (generation(object), object["spec"]["replicas"].clone());
    let condition = |kind: &str, reason: &str| json!({ "type": kind, "status": "True", "reason": reason });
    object["status"] = json!({
        "observedGeneration": generation,
        "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
        "conditions": [
            condition("Available", "MinimumReplicasAvailable"),
            condition("Progressing", "NewReplicaSetAvailable"),
        ],
    });
}

fn generation(object: &mut Value) -> Value {
    default(&mut object["metadata"], "generation", || json!(1));
    object["metadata"]["generation"].clone()
}

/// The server counts how often a spec has changed.
pub(crate) fn count_generation(before: &Value, object: &mut Value) {
    if let Some(generation) = before["metadata"]["generation"].as_u64() {
        let is_changed = u64::from(before["spec"] != object["spec"]);
        object["metadata"]["generation"] = json!(generation + is_changed);
    }
}
