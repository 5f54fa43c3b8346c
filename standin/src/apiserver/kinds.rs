//! Kinds of a group of their own, as custom resources would bring them: as many as a test asks for, and no objects of any.

use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::status::Failure;

pub(crate) const GROUP: &str = "many.example.com";

/// The group as it stands in the aggregated discovery document.
pub(crate) fn discovered(count: usize) -> Value {
    let resource = |n: usize| {
        json!({
            "resource": format!("kind{n}s"),
            "responseKind": { "group": GROUP, "version": "v1", "kind": format!("Kind{n}") },
            "scope": "Namespaced",
            "singularResource": format!("kind{n}"),
            "verbs": ["get", "list"],
            "categories": ["all"],
        })
    };
    let resources: Vec<Value> = (0..count).map(resource).collect();
    json!({
        "metadata": { "name": GROUP },
        "versions": [{ "version": "v1", "resources": resources, "freshness": "Current" }],
    })
}

/// Answers a list.
pub(crate) fn answer(call: &Call, count: usize) -> Answer {
    let number = call.target.resource.strip_prefix("kind").and_then(|rest| rest.strip_suffix('s'));
    let number: usize = number.and_then(|number| number.parse().ok()).ok_or_else(Failure::no_such_path)?;
    if number >= count || call.target.verb != "list" {
        return Err(Failure::no_such_path());
    }
    call.ok(&json!({
        "kind": format!("Kind{number}List"),
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": { "resourceVersion": "1" },
        "items": [],
    }))
}
