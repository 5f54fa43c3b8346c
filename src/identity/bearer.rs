//! Bearer tokens out of `Authorization` and out of the WebSocket subprotocol. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

use crate::http::headers::{BEARER_SUBPROTOCOL, list};

/// What a place for credentials holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// Nothing: the next place is looked at.
    Nothing,
    /// A text that may be a credential of ours.
    Token(Cow<'a, str>),
    /// Something that cannot be one.
    Unusable,
    /// More than one where only one may stand.
    Twice,
}

/// The bearer token of a request, wherever it stands.
pub(super) fn presented(headers: &HeaderMap) -> Presented<'_> {
    match from_authorization(headers) {
        Presented::Nothing => from_subprotocol(headers),
        found => found,
    }
}

/// RFC 6750 section 2.1. Another scheme than `Bearer` is presented too, and refused.
fn from_authorization(headers: &HeaderMap) -> Presented<'_> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let Some(value) = values.next() else { return Presented::Nothing };
    if values.next().is_some() {
        return Presented::Twice;
    }
    let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.trim().split_once(' ')) else {
        return Presented::Unusable;
    };
    let token = token.trim_start();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Presented::Unusable;
    }
    Presented::Token(Cow::Borrowed(token))
}

/// The form that the API server defines for browsers, which cannot set `Authorization` on a WebSocket:
/// base64url without padding after a fixed prefix, beside at least one real subprotocol.
fn from_subprotocol(headers: &HeaderMap) -> Presented<'_> {
    let mut entries = list(headers, &SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|entry| entry.strip_prefix(BEARER_SUBPROTOCOL.as_bytes()));
    let Some(encoded) = entries.next() else { return Presented::Nothing };
    if entries.next().is_some() {
        return Presented::Unusable;
    }
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.map_or(Presented::Unusable, |token| Presented::Token(Cow::Owned(token)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn token(text: &str) -> Presented<'_> {
        Presented::Token(text.into())
    }

    /// Scheme names are not case-sensitive; another scheme is refused, not passed over.
    #[test]
    fn authorization_is_bearer_or_refused() {
        assert_eq!(presented(&headers(&[("authorization", "Bearer abc")])), token("abc"));
        assert_eq!(presented(&headers(&[("authorization", "bearer  abc")])), token("abc"));
        for other in ["Basic YTpi", "Bearer", "Bearer ", "abc", ""] {
            assert_eq!(presented(&headers(&[("authorization", other)])), Presented::Unusable, "{other}");
        }
        let two = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(presented(&two), Presented::Twice);
    }

    /// The subprotocol is base64url without padding; anything else is refused.
    #[test]
    fn the_subprotocol_is_decoded_strictly() {
        let of = |encoded: &str| {
            headers(&[(
                "sec-websocket-protocol",
                &format!("v5.channel.k8s.io, {BEARER_SUBPROTOCOL}{encoded}"),
            )])
        };
        assert_eq!(presented(&of("Pz8_")), token("???"));
        assert_eq!(presented(&of("Pz8/")), Presented::Unusable);
        assert_eq!(presented(&of("YQ==")), Presented::Unusable);
        assert_eq!(
            presented(&headers(&[("sec-websocket-protocol", "v5.channel.k8s.io")])),
            Presented::Nothing
        );
    }

    proptest! {
        /// Whatever stands in the headers, the parser neither panics nor invents a token.
        #[test]
        fn any_header_is_parsed(text in "[ -~]{0,60}") {
            let headers = headers(&[("authorization", &text), ("sec-websocket-protocol", &text)]);
            if let Presented::Token(token) = presented(&headers) {
                prop_assert!(text.contains(token.as_ref()));
            }
        }
    }
}
