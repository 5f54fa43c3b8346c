//! A path as the API server will read it: decoded, cleaned, cut into segments.

use std::borrow::Cow;

/// What a path's segments say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) is_watch: bool,
    pub(super) is_proxy: bool,
    pub(super) is_log: bool,
    /// Whether decoding or cleaning changes nothing about where the segments begin and end.
    pub(super) is_one: bool,
}

pub(super) fn read(path: &str) -> Reading {
    let decoded = decode(path);
    let is_one = is_one(path, &decoded);
    let segments = clean(&decoded);
    // `/api/{version}/…` and `/apis/{group}/{version}/…`
    let rest = match segments.first().copied() {
        Some("api") => segments.get(2..),
        Some("apis") => segments.get(3..),
        _ => None,
    };
    let rest = rest.unwrap_or_default();
    // Old forms put the verb before the resource.
    let verb = rest.first().copied();
    let rest = if matches!(verb, Some("watch" | "proxy")) { &rest[1..] } else { rest };
    let rest = if rest.first() == Some(&"namespaces") && rest.len() > 2 { &rest[2..] } else { rest };
    // resource, name, subresource
    let subresource = rest.get(2).copied();
    Reading {
        is_watch: verb == Some("watch"),
        is_proxy: verb == Some("proxy") || subresource == Some("proxy"),
        is_log: subresource == Some("log"),
        is_one,
    }
}

/// Percent-decodes once, as Go's `net/url` does; what is not valid stays as it is.
fn decode(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|digit| char::from(*digit).to_digit(16));
        if bytes[at] == b'%'
            && let (Some(high), Some(low)) = (hex(1), hex(2))
        {
            decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// Segments without empty ones and `.`, with `..` resolved.
fn clean(path: &str) -> Vec<&str> {
    let mut segments = Vec::with_capacity(10);
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    segments
}

fn is_one(path: &str, decoded: &str) -> bool {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let plain_segments = path == "/" || inner.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    let same_cuts = path.matches('/').count() == decoded.matches('/').count();
    let no_dots = clean(decoded).len() == inner.split('/').filter(|segment| !segment.is_empty()).count();
    let odd = |c: char| c == '\\' || c == '%' || c == '\u{fffd}' || c.is_control();
    plain_segments && same_cuts && no_dots && !decoded.contains(odd)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A proxy path is found by its place, not by a name, and through every disguise.
    #[test]
    fn proxy_paths_are_found_through_disguises() {
        for path in [
            "/api/v1/namespaces/a/services/web/proxy",
            "/api/v1/namespaces/a/pods/web:8080/proxy/x/y",
            "/api/v1/nodes/n1/proxy/metrics",
            "/api/v1/proxy/namespaces/a/services/web",
            "/api/v1/namespaces/a/services/web/%70roxy/",
            "//api/v1/namespaces/a/services/web/proxy",
            "/api/v1/namespaces/a/services/web%2fproxy/",
            "/x/%2e%2e/api/v1/namespaces/a/services/web/./proxy",
        ] {
            assert!(read(path).is_proxy, "{path}");
        }
        for path in
            ["/api/v1/namespaces/a/configmaps/proxy", "/api/v1/namespaces/proxy/pods/proxy/log", "/proxy"]
        {
            assert!(!read(path).is_proxy, "{path}");
        }
    }

    /// Whatever two readers could cut differently has two readings.
    #[test]
    fn ambiguous_paths_have_two_readings() {
        for path in [
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/a%2fb",
            "/a/%2e%2e/b",
            "/a/%252e/b",
            "/a%5cb",
            "/a\\b",
            "//",
            "/a%zz",
        ] {
            assert!(!read(path).is_one, "{path}");
        }
        for path in [
            "/",
            "/api",
            "/api/",
            "/api/v1/namespaces/a/services/https:web:443/x",
            "/apis/x.y/v1/z/caf%C3%A9",
        ] {
            assert!(read(path).is_one, "{path}");
        }
    }

    proptest! {
        /// Any path is read without panic; one without `%` and `.` and doubled slashes has one reading.
        #[test]
        fn any_path_is_read(path in "/[ -~]{0,60}", plain in "(/[a-z0-9:-]{1,8}){1,8}") {
            let _ = read(&path);
            prop_assert!(read(&plain).is_one);
        }
    }
}
