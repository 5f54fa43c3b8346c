//! `/openapi/v3` and `/openapi/v2`: as little as kubectl needs to trust the server with validation.
//!
//! Version 3 says only that every kind can be patched and that `fieldValidation` is understood, so that `kubectl apply`
//! asks the server for strict validation (see [`check_fields`]). Version 2 describes nothing: a kubectl that knows
//! only that one skips the validation of kinds that are not described.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::accept::accepted;
use super::call::{Answer, Call, bytes};
use super::discovery::Resource;
use super::status::Failure;

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

pub(crate) fn answer(call: &Call) -> Answer {
    match call.target.path.trim_end_matches('/') {
        "/openapi/v2" => version_2(call),
        "/openapi/v3" => {
            let paths: Map<String, Value> = Resource::all()
                .iter()
                .map(|own| {
                    (path(own), json!({ "serverRelativeURL": format!("/openapi/v3/{}?hash=1", path(own)) }))
                })
                .collect();
            call.ok(&json!({ "paths": paths }))
        }
        other => {
            let group = other.strip_prefix("/openapi/v3/").ok_or_else(Failure::no_such_path)?;
            let own: Vec<&Resource> = Resource::all().iter().filter(|own| path(own) == group).collect();
            if own.is_empty() { Err(Failure::no_such_path()) } else { call.ok(&version_3(&own)) }
        }
    }
}

/// `api/v1`, `apis/apps/v1`.
fn path(resource: &Resource) -> String {
    format!("{}/{}", if resource.group.is_empty() { "api" } else { "apis" }, resource.api_version())
}

fn version_2(call: &Call) -> Answer {
    if accepted(call.headers()).first().is_some_and(|wanted| wanted.is_openapi_protobuf()) {
        // The empty message: every field has its default.
        return Ok(bytes(StatusCode::OK, PROTOBUF, ""));
    }
    call.ok(&json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": "stand-in" },
        "paths": {},
        "definitions": {},
    }))
}

fn version_3(group: &[&Resource]) -> Value {
    let paths: Map<String, Value> = group
        .iter()
        .filter(|resource| resource.serves("patch"))
        .map(|resource| {
            let scope = if resource.is_namespaced { "namespaces/{namespace}/" } else { "" };
            let patch = json!({
                "parameters": [{ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } }],
                "x-kubernetes-group-version-kind":
                    { "group": resource.group, "kind": resource.kind, "version": resource.version },
            });
            (format!("/{}/{scope}{}/{{name}}", path(resource), resource.name), json!({ "patch": patch }))
        })
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "stand-in" },
        "paths": paths,
    })
}

/// Refuses an object with unknown fields where strict validation is asked for. Only the top level is known here.
pub(crate) fn check_fields(call: &Call, resource: &Resource, object: &Value) -> Result<(), Failure> {
    let own: &[&str] = match resource.kind.as_str() {
        "ConfigMap" => &["data", "binaryData", "immutable"],
        "Secret" => &["data", "immutable", "stringData", "type"],
        "ServiceAccount" => &["automountServiceAccountToken", "imagePullSecrets", "secrets"],
        _ => &["spec", "status"],
    };
    if call.query.get("fieldValidation") != Some("Strict") {
        return Ok(());
    }
    let is_known = |field: &&String| {
        matches!(field.as_str(), "apiVersion" | "kind" | "metadata") || own.contains(&field.as_str())
    };
    let unknown = object.as_object().and_then(|fields| fields.keys().find(|field| !is_known(field)));
    match unknown {
        None => Ok(()),
        Some(field) => Err(Failure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: unknown field \
             \"{field}\"",
            kind = resource.kind,
            version = resource.version,
        ))),
    }
}
