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
            call.ok(&json!({ "paths": { "api/v1": { "serverRelativeURL": "/openapi/v3/api/v1?hash=1" } } }))
        }
        "/openapi/v3/api/v1" => call.ok(&version_3()),
        _ => Err(Failure::no_such_path()),
    }
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

fn version_3() -> Value {
    let own = Resource::all().iter().filter(|resource| resource.group.is_empty() && resource.serves("patch"));
    let paths: Map<String, Value> = own
        .map(|resource| {
            let scope = if resource.is_namespaced { "namespaces/{namespace}/" } else { "" };
            let patch = json!({
                "parameters": [{ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } }],
                "x-kubernetes-group-version-kind": { "group": "", "kind": resource.kind, "version": "v1" },
            });
            (format!("/api/v1/{scope}{}/{{name}}", resource.name), json!({ "patch": patch }))
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
        "Namespace" | "Pod" => &["spec", "status"],
        _ => return Ok(()),
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
