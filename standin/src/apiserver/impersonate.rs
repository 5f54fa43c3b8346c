//! `Impersonate-*`: every name asked for is checked against the caller's own rights.

use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;

use super::auth::User;
use super::rbac::{self, Rule};
use super::status::Failure;
use super::target::Target;

const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that the request acts as: the caller, or whom the caller may impersonate.
pub(crate) fn effective(rules: &[Rule], caller: &User, headers: &HeaderMap) -> Result<User, Failure> {
    let Some(wanted) = requested(headers)? else { return Ok(caller.clone()) };
    let check = |group: &str, resource: &str, subresource: &str, name: &str| {
        let target = Target {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..Target::default()
        };
        rbac::authorize(rules, caller, &target)
    };
    check("", "users", "", &wanted.name)?;
    for group in &wanted.groups {
        check("", "groups", "", group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check(AUTHENTICATION, "userextras", key, value)?;
        }
    }
    if !wanted.uid.is_empty() {
        check(AUTHENTICATION, "uids", "", &wanted.uid)?;
    }
    let mut user = wanted;
    if user.name != "system:anonymous" {
        user.groups.push("system:authenticated".to_owned());
    }
    Ok(user)
}

/// Whom the headers name, unchecked.
fn requested(headers: &HeaderMap) -> Result<Option<User>, Failure> {
    let mut user = User::default();
    let mut anything = false;
    for (name, value) in headers {
        let Some(what) = name.as_str().strip_prefix("impersonate-") else { continue };
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match what {
            "user" => user.name = value,
            "uid" => user.uid = value,
            "group" => user.groups.push(value),
            _ => {
                let Some(key) = what.strip_prefix("extra-") else { continue };
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                user.extra.entry(key).or_default().push(value);
            }
        }
        anything = true;
    }
    if anything && user.name.is_empty() {
        let failure = Failure::internal("requested impersonation without impersonating a user");
        return Err(Failure { code: StatusCode::INTERNAL_SERVER_ERROR, ..failure });
    }
    Ok(anything.then_some(user))
}
