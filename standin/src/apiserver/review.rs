//! Self reviews: `kubectl auth whoami`, `auth can-i` and `auth can-i --list`.

use http::StatusCode;
use serde_json::{Value, json};

use super::auth::User;
use super::call::{Answer, Call};
use super::rbac::{self, Rule};
use super::status::Failure;
use super::target::Target;

/// Answers a self review. The request was authorized: everyone may review themselves.
pub(crate) async fn answer(call: &mut Call, rules: &[Rule]) -> Answer {
    if call.target.verb != "create" {
        return Err(Failure::method_not_allowed());
    }
    let mut review = call.read_object().await?;
    let user = call.user.clone();
    match call.target.resource.as_str() {
        "selfsubjectreviews" => {
            let mut info = json!({ "username": user.name, "groups": user.groups, "extra": user.extra });
            if !user.uid.is_empty() {
                info["uid"] = json!(user.uid);
            }
            review["metadata"] = json!({ "creationTimestamp": null });
            review["status"] = json!({ "userInfo": info });
        }
        "selfsubjectaccessreviews" => {
            let allowed = rbac::permits(rules, &user, &asked(&review["spec"]));
            review["status"] = json!({ "allowed": allowed });
            if allowed {
                review["status"]["reason"] = json!("RBAC: allowed by a rule of the stand-in");
            }
        }
        "selfsubjectrulesreviews" => {
            let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
            review["status"] = listed(rules, &user, namespace);
        }
        _ => return Err(Failure::no_such_path()),
    }
    Ok(call.json(StatusCode::CREATED, &review))
}

fn asked(spec: &Value) -> Target {
    let text = |at: &Value, field: &str| at[field].as_str().unwrap_or_default().to_owned();
    let resource = &spec["resourceAttributes"];
    if resource.is_object() {
        return Target {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            version: text(resource, "version"),
            namespace: text(resource, "namespace"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            name: text(resource, "name"),
            ..Target::default()
        };
    }
    let path = &spec["nonResourceAttributes"];
    Target { verb: text(path, "verb"), path: text(path, "path"), ..Target::default() }
}

fn listed(rules: &[Rule], user: &User, namespace: &str) -> Value {
    let mut resources: Vec<Value> = rules
        .iter()
        .filter(|rule| rule.is_for(user) && rule.holds_in(namespace))
        .map(|rule| {
            let mut own =
                json!({ "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources });
            if !rule.resource_names.is_empty() {
                own["resourceNames"] = json!(rule.resource_names);
            }
            own
        })
        .collect();
    resources.extend(rbac::SELF_REVIEWS.iter().map(
        |(group, resource)| json!({ "verbs": ["create"], "apiGroups": [group], "resources": [resource] }),
    ));
    json!({
        "resourceRules": resources,
        "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": rbac::OPEN_PATHS }],
        "incomplete": false,
    })
}
