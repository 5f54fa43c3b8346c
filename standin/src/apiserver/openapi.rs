//! `/openapi/v2`: a document that describes nothing.
//!
//! A schema that does not know a kind makes kubectl skip the client's own validation, which is all that is wanted
//! here. `/openapi/v3` is not served: kubectl then asks for version 2, as it does with servers that have no version 3.

use http::StatusCode;
use serde_json::json;

use super::accept::accepted;
use super::call::{Answer, Call, bytes};

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

pub(crate) fn answer(call: &Call) -> Answer {
    if call.target.path.trim_end_matches('/') != "/openapi/v2" {
        return Err(super::status::Failure::no_such_path());
    }
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
