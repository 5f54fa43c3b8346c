//! What a browser must be told so that a page of another origin may use us (CORS: the Fetch standard, "HTTP extensions").
//! Pure. Which origins may is said elsewhere; whatever upstream says about it is removed (see `headers`).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::Body;

/// Every method that the API server knows.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// What a script may read beside the few headers that it always may. With credentials, `*` would not mean all.
const READABLE: HeaderValue = HeaderValue::from_static(
    "Audit-Id, Date, Entrada-Reason, ETag, Location, Retry-After, Warning, WWW-Authenticate",
);
/// How long a browser keeps our answer, in seconds. Who takes an origin from the list need not wait for that: what the
/// page then asks for is refused all the same.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// Names of headers that a page wants to send: some dozens fit.
const MAX_NAMES_BYTES: usize = 4 * 1024;

const YES: HeaderValue = HeaderValue::from_static("true");
const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const BY_QUESTION: HeaderValue =
    HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers");

/// The head of the request that this one asks about; `None`: it is no preflight.
#[must_use]
pub(crate) fn preflighted(parts: &Parts) -> Option<Parts> {
    let method = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if parts.method != Method::OPTIONS || !parts.headers.contains_key(ORIGIN) {
        return None;
    }
    let mut asked = parts.clone();
    asked.method = Method::from_bytes(method.as_bytes()).ok()?;
    Some(asked)
}

/// What a configured origin may ask for, in answer to a preflight with these headers; [`share`] says the rest. A preflight
/// never has a credential, and never goes upstream.
#[must_use]
pub(crate) fn preflight_answer(question: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    // A page that may act as its user may send any header that a client of theirs could.
    let names = question.get(ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(names) = names.filter(|names| names.len() <= MAX_NAMES_BYTES) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(VARY, BY_QUESTION);
    response
}

/// Marks an answer that configured origins may read: readable for the one that asked, and no cache may give it to another.
pub(crate) fn share(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    headers.append(VARY, BY_ORIGIN);
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, YES);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READABLE);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const ORIGIN_OF_PAGE: HeaderValue = HeaderValue::from_static("https://console.example.com");

    fn asked(method: &str, headers: &[(&str, &str)]) -> Option<Method> {
        let mut request = Request::builder().method(method).uri("/api");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        preflighted(&parts).map(|parts| parts.method)
    }

    /// Only `OPTIONS` with both headers is a preflight; a program's own OPTIONS is a request like any other.
    #[test]
    fn a_preflight_has_an_origin_and_asks_for_a_method() {
        let both = [("origin", "https://a.example"), ("access-control-request-method", "PATCH")];
        assert_eq!(asked("OPTIONS", &both), Some(Method::PATCH));
        assert_eq!(asked("OPTIONS", &both[..1]), None);
        assert_eq!(asked("OPTIONS", &both[1..]), None);
        assert_eq!(asked("GET", &both), None);
        assert_eq!(asked("OPTIONS", &[both[0], ("access-control-request-method", "P P")]), None);
    }

    /// The headers that a page wants to send are granted as asked, but not without end.
    #[test]
    fn a_preflights_headers_are_granted_within_bounds() {
        let answer = |names: &str| {
            let mut question = HeaderMap::new();
            question.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_str(names).unwrap());
            preflight_answer(&question).headers().clone()
        };
        insta::assert_debug_snapshot!(answer("content-type,impersonate-user"), @r#"
        {
            "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
            "access-control-allow-headers": "content-type,impersonate-user",
            "access-control-max-age": "600",
            "vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
        }
        "#);
        assert!(!answer(&"x-a,".repeat(2_000)).contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }

    /// Without a configured origin an answer only says that it depends on it; what it varied by before stays.
    #[test]
    fn an_answer_says_that_it_depends_on_the_origin() {
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        share(&mut headers, None);
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["Accept", "Origin"]);
        assert_eq!(headers[CACHE_CONTROL], "public");
        assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")));
        share(&mut headers, Some(&ORIGIN_OF_PAGE));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://console.example.com");
        assert_eq!(headers[CACHE_CONTROL], "no-store");
    }
}
