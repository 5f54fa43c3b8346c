//! What a status is called: on a page, and by the API.

use http::StatusCode;

use super::Help;

pub(super) fn title(status: StatusCode, help: Help) -> &'static str {
    match status.as_u16() {
        400 if help == Help::SignIn => "You are not signed in",
        400 => "That did not work",
        401 => "Please sign in",
        403 => "Not allowed",
        404 => "Nothing here",
        405 => "Not like this",
        429 => "Please wait",
        502..=504 => "Not available right now",
        _ => "Something went wrong",
    }
}

/// The API's own words: `metav1.StatusReason`.
pub(super) fn kubernetes_reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        413 => "RequestEntityTooLarge",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}
