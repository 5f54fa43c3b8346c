//! Which headers pass through, in both directions. Pure functions; nothing here knows a user.

use std::collections::HashSet;

use http::Version;
use http::header::{
    self, CONNECTION, CONTENT_SECURITY_POLICY, COOKIE, HeaderMap, HeaderName, HeaderValue,
    SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, UPGRADE, WWW_AUTHENTICATE,
};

/// Every cookie of ours begins with this, and none of them ever reaches upstream or comes from there.
pub(crate) const COOKIE_PREFIX: &str = "__Host-entrada";
/// The request's name in our log and audit log, and in the API server's.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The API server takes a bearer token from a WebSocket subprotocol with this prefix.
pub(crate) const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Of ours, on every request: four that tell its way here, its credential, its host, its id, and two for an upgrade or a body.
const ADDED_HEADERS: usize = 9;

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Headers of one connection, RFC 9110 section 7.6.1, with the older ones that are still seen.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "proxy-connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
    )
}

/// What claims an identity or to be a trusted proxy, or was meant for us. (`Expect` the server side has answered already.)
fn is_not_for_upstream(name: &str) -> bool {
    matches!(name, "expect" | "host" | "authorization" | "forwarded" | "x-real-ip")
        || ["x-remote-", "x-forwarded-", "entrada-"].iter().any(|prefix| name.starts_with(prefix))
}

/// What an upstream must not say to a browser under our origin, or in our name.
fn is_not_for_clients(name: &str) -> bool {
    matches!(
        name,
        "clear-site-data"
            | "service-worker-allowed"
            | "strict-transport-security"
            | "alt-svc"
            | "nel"
            | "report-to"
            | "reporting-endpoints"
    ) || ["access-control-", "entrada-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the request asks to leave HTTP for another protocol on the same connection.
///
/// Only HTTP/1.1 knows that (RFC 9110 section 7.8). `h2c` is refused by passing over it, and what is offered with it, as that section allows: it
/// would be HTTP again, out of our sight.
#[must_use]
pub(crate) fn is_upgrade(version: Version, headers: &HeaderMap) -> bool {
    let offers = |to: &[u8]| list(headers, &UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(to));
    version == Version::HTTP_11
        && headers.contains_key(UPGRADE)
        && list(headers, &UPGRADE).next().is_some()
        && !offers(b"h2c")
        && list(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// The entries of a comma-separated header, over all its lines, as bytes: one odd byte must not hide the others.
pub(crate) fn list<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b',')).map(trim).filter(|entry| !entry.is_empty())
}

/// Without the white space that HTTP knows: space and tab.
#[must_use]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// The `name=value` pairs of all `Cookie` lines, as bytes. HTTP/2 may send each pair on a line of its own.
pub(crate) fn cookie_pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b';')).map(trim).filter(|pair| !pair.is_empty())
}

/// Of a request's headers those for upstream: nothing of the connection, and nothing that claims an identity.
///
/// `Impersonate-*` stays, even where `Connection` names it: dropping it would widen what the request may do.
/// `upgrade`: `Upgrade` with its protocol is kept, with a `Connection: Upgrade` of our own.
///
/// What may pass is copied, with room for what will be added. A copy of all, from which each name that there might be is
/// removed, costs twice as much, because each removal parses and hashes its name: with [`clean_response`], which looks
/// before it removes, that saves 5 % of all instructions of a small request.
pub(crate) fn for_upstream(inbound: &HeaderMap, cookie_is_credential: bool, upgrade: bool) -> HeaderMap {
    let named = named_by_connection(inbound);
    let mut headers = HeaderMap::with_capacity(inbound.len() + ADDED_HEADERS);
    for (name, value) in inbound {
        let text = name.as_str();
        if !is_hop_by_hop(text) && !is_not_for_upstream(text) && !named.contains(name) {
            headers.append(name, value.clone());
        }
    }
    clean_cookies(&mut headers, cookie_is_credential);
    clean_subprotocols(&mut headers);
    if let Some(upgrade) = inbound.get(UPGRADE).filter(|_| upgrade) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade.clone());
    }
    headers
}

/// Prepares an upstream answer's headers for the client.
pub(crate) fn clean_response(headers: &mut HeaderMap, cookie_is_credential: bool, is_upgrade: bool) {
    let upgrade = if is_upgrade { headers.get(UPGRADE).cloned() } else { None };
    let named = named_by_connection(headers);
    remove_all(headers, |name| {
        is_hop_by_hop(name.as_str()) || is_not_for_clients(name.as_str()) || named.contains(name)
    });
    if cookie_is_credential {
        headers.remove(SET_COOKIE);
        headers.remove(WWW_AUTHENTICATE);
        sandbox(headers);
    } else {
        keep_values(headers, &SET_COOKIE, |cookie| !cookie.trim_start().starts_with(COOKIE_PREFIX));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
}

/// Prepares a dashboard's answer's headers for the browser on the dashboard's own host. It stays as it is, but for what
/// concerns our control of that host, our cookies, and a sign-in of its own by `Authorization`, which is ours.
pub(crate) fn clean_dashboard_response(headers: &mut HeaderMap, is_upgrade: bool) {
    clean_response(headers, false, is_upgrade);
    headers.remove(WWW_AUTHENTICATE);
}

/// What a browser gets of the cluster is data, never a page that acts under our origin.
fn sandbox(headers: &mut HeaderMap) {
    let policy = HeaderValue::from_static("sandbox; frame-ancestors 'none'");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

/// Those of the headers that `Connection` says are for this connection only. Each once, however often it is named: a long
/// list costs no more than it takes to read. What a request may do, and what joins the audit logs, is not up to it.
fn named_by_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    let stays = |name: &str| name.starts_with("impersonate-") || name == AUDIT_ID;
    list(headers, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| headers.contains_key(name) && !stays(name.as_str()))
        .collect()
}

/// Most answers have none of them, and then this allocates nothing.
fn remove_all(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes our own cookies; all of them where a cookie is the credential, because the rest was meant for us too.
/// What is left goes up on one line (RFC 9113 section 8.2.3).
fn clean_cookies(headers: &mut HeaderMap, cookie_is_credential: bool) {
    if cookie_is_credential {
        headers.remove(COOKIE);
        return;
    }
    let ours = |pair: &&[u8]| pair.starts_with(COOKIE_PREFIX.as_bytes());
    if headers.get_all(COOKIE).into_iter().count() < 2 && !cookie_pairs(headers).any(|pair| ours(&pair)) {
        return;
    }
    let kept: Vec<&[u8]> = cookie_pairs(headers).filter(|pair| !ours(pair)).collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|value| !value.is_empty());
    replace(headers, COOKIE, kept);
}

/// Removes bearer tokens from the WebSocket subprotocols and leaves the others as they stand.
fn clean_subprotocols(headers: &mut HeaderMap) {
    // Anywhere in it: the API server takes more for white space than HTTP does.
    let prefix = BEARER_SUBPROTOCOL.as_bytes();
    let bears = |entry: &&[u8]| entry.windows(prefix.len()).any(|part| part == prefix);
    if list(headers, &SEC_WEBSOCKET_PROTOCOL).any(|entry| bears(&entry)) {
        let kept: Vec<&[u8]> = list(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|entry| !bears(entry)).collect();
        let kept = HeaderValue::from_bytes(&kept.join(&b", "[..])).ok().filter(|value| !value.is_empty());
        replace(headers, SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

fn replace(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

fn keep_values(headers: &mut HeaderMap, name: &HeaderName, keep: impl Fn(&str) -> bool) {
    let keeps = |value: &HeaderValue| keep(&String::from_utf8_lossy(value.as_bytes()));
    if headers.get_all(name).into_iter().all(keeps) {
        return;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(name).into_iter().filter(|value| keeps(value)).cloned().collect();
    headers.remove(name);
    for value in kept {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    fn cleaned(lines: &[(&'static str, &'static str)], cookie: bool) -> HeaderMap {
        let headers = map(lines);
        let upgrade = is_upgrade(Version::HTTP_11, &headers);
        for_upstream(&headers, cookie, upgrade)
    }

    /// Nothing that claims an identity, or to be a trusted proxy, passes.
    #[test]
    fn claims_of_identity_are_removed() {
        let headers = cleaned(
            &[
                ("authorization", "Bearer x"),
                ("x-remote-user", "admin"),
                ("x-remote-extra-scopes", "all"),
                ("x-forwarded-for", "1.2.3.4"),
                ("forwarded", "for=1.2.3.4"),
                ("x-real-ip", "1.2.3.4"),
                ("entrada-reason", "x"),
                ("accept", "application/json"),
                ("kubectl-command", "kubectl get"),
            ],
            false,
        );
        assert_eq!(headers, map(&[("accept", "application/json"), ("kubectl-command", "kubectl get")]));
    }

    /// What `Connection` names goes too, but an impersonation never, without which the request could do more, and never the
    /// id, without which the audit logs could not be joined.
    #[test]
    fn connection_names_headers_to_drop_but_not_those_that_matter() {
        let headers = cleaned(
            &[
                ("connection", "close, x-custom, impersonate-user, audit-id, x-missing"),
                ("x-custom", "1"),
                ("impersonate-user", "carol"),
                ("audit-id", "abc"),
                ("te", "trailers"),
            ],
            false,
        );
        assert_eq!(headers, map(&[("impersonate-user", "carol"), ("audit-id", "abc")]));
    }

    /// However many names `Connection` holds, no more are compared with each header than there are headers.
    #[test]
    fn a_long_connection_header_costs_no_more_than_to_be_read() {
        let mut headers: HeaderMap = (0..190)
            .map(|n| (HeaderName::try_from(format!("x-{n}")).unwrap(), HeaderValue::from_static("1")))
            .collect();
        let names: Vec<String> = (0..20_000).map(|n| format!("x-{}", n % 1_000)).collect();
        headers.insert(CONNECTION, HeaderValue::try_from(names.join(",")).unwrap());
        assert_eq!(named_by_connection(&headers).len(), 190);
        assert!(for_upstream(&headers, false, false).is_empty());
    }

    /// Our own cookies are cut out; where one of them is the credential, no cookie passes at all.
    #[test]
    fn our_cookies_never_reach_upstream() {
        let lines =
            [("cookie", "a=1; __Host-entrada=secret; __Host-entrada-login-x=y; b=2"), ("cookie", "c=3")];
        assert_eq!(cleaned(&lines, false), map(&[("cookie", "a=1; b=2; c=3")]));
        assert_eq!(cleaned(&lines, true), HeaderMap::new());
        assert_eq!(cleaned(&[("cookie", "__Host-entrada=secret")], false), HeaderMap::new());
    }

    /// One odd byte in a line hides none of its other entries.
    #[test]
    fn odd_bytes_hide_nothing() {
        let mut headers = HeaderMap::new();
        let odd = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        headers.insert(COOKIE, odd("lang=français; __Host-entrada=secret"));
        let bearer = "base64url.bearer.authorization.k8s.io.c2VjcmV0";
        // The API server takes the space before the second for one, too.
        headers.insert(SEC_WEBSOCKET_PROTOCOL, odd(&format!("{bearer}, \u{a0}{bearer}, é")));
        headers.insert(CONNECTION, odd("x-custom, é"));
        headers.insert("x-custom", HeaderValue::from_static("1"));
        let headers = for_upstream(&headers, false, false);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[COOKIE], odd("lang=français"));
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], odd("é"));
    }

    /// Only HTTP/1.1 can leave HTTP, and not for HTTP/2.
    #[test]
    fn not_every_upgrade_is_one() {
        let upgrade = |to| map(&[("connection", "upgrade"), ("upgrade", to)]);
        assert!(is_upgrade(Version::HTTP_11, &upgrade("SPDY/3.1")));
        assert!(!is_upgrade(Version::HTTP_10, &upgrade("SPDY/3.1")));
        for to in ["h2c", "H2C", "h2c, websocket", "websocket,h2c", ""] {
            assert!(!is_upgrade(Version::HTTP_11, &upgrade(to)), "{to}");
        }
    }

    /// An upgrade keeps its protocol and every subprotocol but the one that bears a token.
    #[test]
    fn upgrades_keep_all_but_the_bearer_subprotocol() {
        let headers = cleaned(
            &[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "websocket"),
                (
                    "sec-websocket-protocol",
                    "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0",
                ),
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
                ("x-stream-protocol-version", "v3.channel.k8s.io"),
            ],
            false,
        );
        let expected = map(&[
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(headers, expected);
    }

    /// An answer to a cookie is made harmless; one to a bearer stays as it is, but for our own names.
    #[test]
    fn answers_are_cleaned_by_credential() {
        let lines = [
            ("set-cookie", "__Host-entrada=stolen; Path=/"),
            ("set-cookie", "pod=1"),
            ("www-authenticate", "Basic"),
            ("access-control-allow-origin", "*"),
            ("entrada-reason", "forged"),
            ("service-worker-allowed", "/"),
            ("audit-id", "1"),
        ];
        let mut bearer = map(&lines);
        clean_response(&mut bearer, false, false);
        assert_eq!(bearer, map(&[("set-cookie", "pod=1"), ("www-authenticate", "Basic"), ("audit-id", "1")]));
        let mut cookie = map(&lines);
        clean_response(&mut cookie, true, false);
        let expected = map(&[
            ("audit-id", "1"),
            ("content-security-policy", "sandbox; frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ]);
        assert_eq!(cookie, expected);
    }
}
