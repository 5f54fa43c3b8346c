//! Our cookies: how they are read from requests and how they are set.

use std::borrow::Cow;
use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue};

use super::bearer::Presented;
use crate::http::headers::{COOKIE_PREFIX, cookie_pairs};

/// The session cookie: an opaque id and nothing else.
pub(crate) const SESSION: &str = "__Host-entrada";
/// Set at sign-out, so that the next sign-in asks for the account: Entra's own sign-in still stands there.
pub(crate) const SIGNED_OUT: &str = "__Host-entrada-signed-out";
/// Begins the name of a sign-in attempt's cookie.
pub(crate) const ATTEMPT_PREFIX: &str = "__Host-entrada-login-";

/// Begins the name of the cookie that holds the fragment of a dashboard's address during a sign-in. Our own page's script
/// sets it.
const FRAGMENT_PREFIX: &str = "__Host-entrada-fragment-";

const _: () = assert!(SESSION.len() == COOKIE_PREFIX.len());

/// Every cookie of a request as name and value, in order; those that are not ASCII are not ours.
pub(crate) fn all(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let texts =
        cookie_pairs(headers).filter(|pair| pair.is_ascii()).filter_map(|pair| str::from_utf8(pair).ok());
    texts.filter_map(|pair| pair.split_once('='))
}

/// The value of the cookie `name`. The same name twice is refused: browsers do not send that for a `__Host-` cookie.
pub(super) fn presented<'a>(headers: &'a HeaderMap, name: &str) -> Presented<'a> {
    let mut values = all(headers).filter(|(found, _)| *found == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Presented::Nothing,
        (Some(value), None) => Presented::Token(Cow::Borrowed(value)),
        (Some(_), Some(_)) => Presented::Twice,
    }
}

/// A `Set-Cookie` value with all the protection that browsers offer, marked sensitive.
#[must_use]
pub(crate) fn set(name: &str, value: &str, lives: Duration) -> HeaderValue {
    let max_age = cookie::time::Duration::try_from(lives).unwrap_or(cookie::time::Duration::MAX);
    let cookie = Cookie::build((name, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .max_age(max_age)
        .build();
    let mut value = HeaderValue::from_str(&cookie.to_string())
        .expect("names and values of ours are of base64url's letters");
    value.set_sensitive(true);
    value
}

/// A `Set-Cookie` value that removes the cookie.
#[must_use]
pub(crate) fn remove(name: &str) -> HeaderValue {
    set(name, "", Duration::ZERO)
}

/// The fragment of the address to come back to, and the `Set-Cookie` value that removes it. It stood after the `#` of an
/// address that anybody may have made, and goes back there and nowhere else.
#[must_use]
pub(crate) fn fragment(headers: &HeaderMap, state: &str) -> Option<(String, HeaderValue)> {
    let wanted = format!("{FRAGMENT_PREFIX}{state}");
    let (_, value) = all(headers).find(|(name, _)| *name == wanted)?;
    let fragment = percent_decoded(value).filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))?;
    Some((fragment, remove(&wanted)))
}

fn percent_decoded(text: &str) -> Option<String> {
    // A `+` is none of a form's spaces here.
    let pair = format!("x={}", text.replace('+', "%2B"));
    Some(url::form_urlencoded::parse(pair.as_bytes()).next()?.1.into_owned())
}

/// What a browser that was given these cookies sends with its next request; those that have ended are gone.
#[cfg(test)]
pub(crate) fn sent_back(cookies: &[HeaderValue]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for cookie in cookies.iter().map(|cookie| cookie.to_str().unwrap()) {
        if !cookie.contains("Max-Age=0") {
            let pair = cookie.split(';').next().unwrap();
            headers.append(http::header::COOKIE, HeaderValue::from_str(pair).unwrap());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    /// The session cookie has the contract's attributes.
    #[test]
    fn cookies_are_host_bound_and_out_of_scripts_reach() {
        let value = set(SESSION, "abc", Duration::from_secs(60));
        let expected = "__Host-entrada=abc; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60";
        assert_eq!(value.to_str().unwrap(), expected);
        assert!(value.is_sensitive());
        assert!(remove(SESSION).to_str().unwrap().ends_with("Max-Age=0"));
    }

    /// A fragment comes back as it was; one that could end the address early does not.
    #[test]
    fn a_fragment_is_kept_as_it_was() {
        let kept = |value: &str| {
            let mut headers = HeaderMap::new();
            let cookie = format!("{FRAGMENT_PREFIX}abcdefgh={value}");
            headers.insert(COOKIE, HeaderValue::from_str(&cookie).unwrap());
            fragment(&headers, "abcdefgh").map(|(fragment, _)| fragment)
        };
        let asked = "/workloads?namespace=team%20a&x=1+2#y";
        let encoded = "%2Fworkloads%3Fnamespace%3Dteam%2520a%26x%3D1%2B2%23y";
        assert_eq!(kept(encoded).as_deref(), Some(asked));
        assert_eq!(kept("a%0d%0ab"), None);
        assert_eq!(kept("%C3%A4"), None);
        assert_eq!(fragment(&HeaderMap::new(), "abcdefgh"), None);
    }

    /// A cookie that only begins like ours is another one.
    #[test]
    fn names_are_matched_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("__Host-entrada-x=1; __Host-entrada=2"));
        assert_eq!(presented(&headers, SESSION), Presented::Token("2".into()));
        headers.append(COOKIE, HeaderValue::from_static("__Host-entrada=3"));
        assert_eq!(presented(&headers, SESSION), Presented::Twice);
    }
}
