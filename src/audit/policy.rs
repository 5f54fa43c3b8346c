//! Which rule of the policy a request falls under.
//!
//! Source: k8s.io/apiserver, package `audit/policy`: the first rule that matches decides; without one, nothing is
//! recorded.

use std::borrow::Cow;

use super::exchange::{Exchange, Object};
use crate::config::{AuditPolicy, AuditRule, GroupResources};

/// The rule that says how an exchange is recorded; nothing where it is not.
pub(super) fn rule<'p>(policy: &'p AuditPolicy, exchange: &Exchange<'_>) -> Option<&'p AuditRule> {
    policy.rules.iter().find(|rule| matches(rule, exchange)).filter(|rule| rule.recorded)
}

fn matches(rule: &AuditRule, exchange: &Exchange<'_>) -> bool {
    let holds = |list: &[String], text: &str| list.iter().any(|item| item == text);
    if !rule.users.is_empty() {
        // AKS knows a guest by the object id, and everybody else by the user name.
        let named = |user: &super::User<'_>| {
            holds(&rule.users, &user.session.username) || holds(&rule.users, &user.session.oid)
        };
        if !exchange.user.as_ref().is_some_and(named) {
            return false;
        }
    }
    if !rule.verbs.is_empty() && !holds(&rule.verbs, exchange.verb) {
        return false;
    }
    if !rule.namespaces.is_empty() || !rule.resources.is_empty() {
        let Some(object) = &exchange.object else { return false };
        return (rule.namespaces.is_empty() || holds(&rule.namespaces, object.namespace))
            && (rule.resources.is_empty() || rule.resources.iter().any(|group| names(group, object)));
    }
    if !rule.paths.is_empty() {
        let path = decoded(exchange.path());
        return exchange.object.is_none() && rule.paths.iter().any(|pattern| is_under(&path, pattern));
    }
    true
}

fn names(group: &GroupResources, object: &Object<'_>) -> bool {
    if group.group != object.group {
        return false;
    }
    if group.resources.is_empty() {
        return true;
    }
    if !group.names.is_empty() && !group.names.iter().any(|name| name == object.name) {
        return false;
    }
    group.resources.iter().any(|pattern| match pattern.split_once('/') {
        None if pattern == "*" => true,
        None => pattern == object.resource && object.subresource.is_empty(),
        Some((resource, "*")) if resource == object.resource => true,
        Some((resource, subresource)) => {
            (resource == "*" || resource == object.resource)
                && subresource == object.subresource
                && !subresource.is_empty()
        }
    })
}

fn is_under(path: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => path.starts_with(stem),
        None => path == pattern,
    }
}

/// A path without its percent-encoding.
pub(super) fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = digits.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{exchange, object};
    use super::*;

    fn group(group: &str, resources: &[&str], names: &[&str]) -> GroupResources {
        let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        GroupResources { group: group.to_owned(), resources: owned(resources), names: owned(names) }
    }

    /// Resources are named as in the API server's own policies, wildcards included.
    #[test]
    fn resources_match_as_in_the_api_server() {
        let log = Object { subresource: "log", ..object() };
        let pods = object();
        for (pattern, matches_pods, matches_log) in [
            ("*", true, true),
            ("pods", true, false),
            ("pods/log", false, true),
            ("pods/*", true, true),
            ("*/log", false, true),
            ("*/exec", false, false),
            ("services", false, false),
        ] {
            let group = group("", &[pattern], &[]);
            assert_eq!((names(&group, &pods), names(&group, &log)), (matches_pods, matches_log), "{pattern}");
        }
        assert!(names(&group("", &[], &[]), &log) && !names(&group("apps", &[], &[]), &log));
        assert!(
            names(&group("", &["pods"], &["web"]), &pods) && !names(&group("", &["pods"], &["x"]), &pods)
        );
    }

    /// The first rule that matches decides, all of whose lists must hold; without one nothing is recorded.
    #[test]
    fn the_first_rule_that_matches_decides() {
        let text = |item: &str| vec![item.to_owned()];
        let none =
            AuditRule { users: text("alice@contoso.example"), verbs: text("get"), ..AuditRule::default() };
        let some = AuditRule { recorded: true, namespaces: text("team-a"), ..AuditRule::default() };
        let paths = AuditRule { recorded: true, paths: text("/healthz*"), ..AuditRule::default() };
        let policy = AuditPolicy { rules: vec![none, some, paths] };
        let is_recorded = |exchange: &Exchange<'_>| rule(&policy, exchange).is_some();
        let get = exchange();
        assert!(!is_recorded(&get));
        assert!(is_recorded(&Exchange { verb: "list", ..get }));
        assert!(is_recorded(&Exchange { user: None, ..get }));
        let other = Object { namespace: "team-b", ..object() };
        assert!(!is_recorded(&Exchange { verb: "list", object: Some(other), ..get }));
        let uri = "/health%7A/etcd".parse().unwrap();
        assert!(is_recorded(&Exchange { verb: "post", object: None, uri: Some(&uri), ..get }));
        let uri = "/version".parse().unwrap();
        assert!(!is_recorded(&Exchange { verb: "post", object: None, uri: Some(&uri), ..get }));
        let by_oid = AuditRule { recorded: true, users: text("00000000-oid"), ..AuditRule::default() };
        assert!(rule(&AuditPolicy { rules: vec![by_oid] }, &get).is_some());
    }
}
