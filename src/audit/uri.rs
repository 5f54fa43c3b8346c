//! The request's URI as an event tells it: as it came, but bounded and without what would let a reader act as somebody.

use std::borrow::Cow;

use http::Uri;

use super::event::CUT;
use crate::secret::{HIDDEN, without_tokens};

/// Longer ones are selectors, whose end says little.
const MAX_URI_BYTES: usize = 8 * 1024;
/// Parameters whose value is a secret wherever they stand: of sign-ins, signed addresses, and pods behind `…/proxy/`.
const SECRET_NAMES: [&str; 14] = [
    "access_token",
    "api_key",
    "apikey",
    "authorization",
    "client_secret",
    "code",
    "id_token",
    "key",
    "password",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "token",
];

/// What is told of a URI, and whether its end was cut off. Of a page's, only the path.
pub(super) fn shown(uri: &Uri, is_page: bool) -> (Cow<'_, str>, bool) {
    let path = without_tokens(uri.path());
    let shown = match uri.query().filter(|_| !is_page) {
        Some(query) if has_secret(query) => {
            let parameters: Vec<_> = query.split('&').map(shown_parameter).collect();
            Cow::Owned(format!("{path}?{}", parameters.join("&")))
        }
        Some(_) if matches!(path, Cow::Borrowed(_)) => {
            Cow::Borrowed(uri.path_and_query().map_or_else(|| uri.path(), |own| own.as_str()))
        }
        Some(query) => Cow::Owned(format!("{path}?{query}")),
        None => path,
    };
    if shown.len() <= MAX_URI_BYTES {
        return (shown, false);
    }
    let beginning = &shown[..shown.floor_char_boundary(MAX_URI_BYTES)];
    (Cow::Owned(format!("{beginning}{CUT}")), true)
}

fn has_secret(query: &str) -> bool {
    query.split('&').any(|parameter| matches!(shown_parameter(parameter), Cow::Owned(_)))
}

fn shown_parameter(parameter: &str) -> Cow<'_, str> {
    let name_bytes = parameter.bytes().position(|byte| byte == b'=').unwrap_or(parameter.len());
    let name = &parameter[..name_bytes];
    let plain = super::policy::decoded(name);
    let has_value = name_bytes + 1 < parameter.len();
    if has_value && SECRET_NAMES.iter().any(|secret| plain.eq_ignore_ascii_case(secret)) {
        return Cow::Owned(format!("{name}={HIDDEN}"));
    }
    without_tokens(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(uri: &str, is_page: bool) -> String {
        shown(&uri.parse().unwrap(), is_page).0.into_owned()
    }

    /// A Kubernetes path is told as it came, byte for byte.
    #[test]
    fn what_holds_no_secret_is_told_as_it_came() {
        for uri in [
            "/api/v1/namespaces/a/pods?limit=500&labelSelector=app%3Dweb",
            "/api/v1/pods?watch=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTIzNDV9",
            "/api/v1/namespaces/entrada_/pods/keys?",
            "/version",
            "/%2e%2e//x",
        ] {
            assert_eq!(told(uri, false), uri);
        }
        assert_eq!(told("/api/v1/pods?token=", false), "/api/v1/pods?token=");
    }

    /// No code or state of a sign-in, and no token, gets into an event.
    #[test]
    fn secrets_are_not_told() {
        assert_eq!(told("/callback?code=hunter2&state=hunter2", true), "/callback");
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln-_A";
        for (uri, shown) in [
            ("/api/v1/x/proxy/?token=hunter2&a=b".to_owned(), "/api/v1/x/proxy/?token=REDACTED&a=b"),
            ("/api?Access%5FToken=hunter2".to_owned(), "/api?Access%5FToken=REDACTED"),
            (format!("/api?x={jwt}&y=1"), "/api?x=REDACTED&y=1"),
            (format!("/api?{jwt}"), "/api?REDACTED"),
            (format!("/api?{jwt}=1&a=b"), "/api?REDACTED=1&a=b"),
            (format!("/api/{jwt}/a?b=c"), "/api/REDACTED/a?b=c"),
            (format!("/api?x=Bearer%20entrada_{}&y=1", "aZ09".repeat(12)), "/api?x=Bearer%20REDACTED&y=1"),
        ] {
            assert_eq!(told(&uri, false), shown);
        }
    }

    /// The longest URI that is let in is searched in no time, whatever a stranger writes into it.
    #[test]
    fn many_parameters_cost_no_time() {
        let began = std::time::Instant::now();
        for parameter in ["eyJ&", "=eyJ&", "token=&", "%65=entrada_&", "&"] {
            let uri = format!("/api?{}", parameter.repeat(64_000 / parameter.len())).parse().unwrap();
            assert!(!shown(&uri, false).0.is_empty());
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
    }

    /// What a client sends has a bound.
    #[test]
    fn a_long_uri_is_cut() {
        let uri = format!("/api?x={}", "a".repeat(60_000)).parse().unwrap();
        let (text, cut) = shown(&uri, false);
        assert!(cut && text.len() < 9_000 && text.ends_with("aa...TRUNCATED"));
    }
}
