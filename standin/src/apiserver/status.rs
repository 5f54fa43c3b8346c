//! Refusals: `metav1.Status` in the words of the real server.

use http::StatusCode;
use serde::Serialize;

use super::target::Target;

/// A request that ends with a `Status` instead of what it asked for.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Box<Details>>,
}

/// What a failure is about; empty fields are left out, in the order of the real server.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<Cause>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) field: String,
}

/// The JSON of a `Status`, fields in the real order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<Details>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Empty {}

impl Status {
    /// What a deletion answers where the object itself is not shown.
    pub(crate) fn deleted(kind: &str, name: &str, uid: &str) -> Self {
        let details = Details { name: name.into(), kind: kind.into(), uid: uid.into(), ..Details::default() };
        Self::new("Success", Some(Box::new(details)))
    }

    fn new(status: &'static str, details: Option<Box<Details>>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status,
            message: String::new(),
            reason: "",
            details,
            code: None,
        }
    }
}

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(self, details: Details) -> Self {
        Self { details: Some(Box::new(details)), ..self }
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            message: self.message.clone(),
            reason: self.reason,
            code: Some(self.code.as_u16()),
            ..Status::new("Failure", self.details.clone())
        }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn internal(message: &str) -> Self {
        let text = format!("Internal error occurred: {message}");
        let cause = Cause { reason: "", message: message.into(), field: String::new() };
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", text)
            .about(Details { causes: vec![cause], ..Details::default() })
    }

    /// A path that no handler stands behind.
    pub(crate) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(Details::default())
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).about(Details::default())
    }

    pub(crate) fn unsupported_media_type(got: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: application/json \
             (got {got:?})"
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn not_found(target: &Target, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", target.qualified());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(Details::of(target, name))
    }

    pub(crate) fn already_exists(target: &Target, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", target.qualified());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(Details::of(target, name))
    }

    pub(crate) fn conflict(target: &Target, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your \
             changes to the latest version and try again",
            target.qualified()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(Details::of(target, name))
    }

    /// Fields that other managers have set.
    pub(crate) fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(Details { causes, ..Details::default() })
    }

    pub(crate) fn invalid(kind: &str, name: &str, field: &str, problem: &str) -> Self {
        let cause = Cause { reason: "FieldValueInvalid", message: problem.into(), field: field.into() };
        let details =
            Details { name: name.into(), kind: kind.into(), causes: vec![cause], ..Details::default() };
        let message = format!("{kind} \"{name}\" is invalid: {field}: {problem}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(details)
    }

    /// A revision that the history no longer holds.
    pub(crate) fn expired(wanted: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {wanted} ({oldest})");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// A refusal of RBAC, in its words. `action` is everything after the user's name.
    pub(crate) fn forbidden(what: &str, details: Details, user: &str, action: &str) -> Self {
        let subject = if what.is_empty() { "forbidden".to_owned() } else { format!("{what} is forbidden") };
        let message = format!("{subject}: User \"{user}\" {action}");
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(details)
    }
}

impl Details {
    pub(crate) fn of(target: &Target, name: &str) -> Self {
        Self {
            name: name.into(),
            group: target.group.clone(),
            kind: target.resource.clone(),
            ..Self::default()
        }
    }
}
