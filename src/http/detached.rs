//! A request's head without the buffer that it was read into.
//!
//! The HTTP libraries copy nothing: target and header values are slices of the connection's read buffer, and one slice
//! keeps the whole buffer, 8 KiB at least. A request that is answered at once gives it back at once. A stream keeps what
//! its record tells of it for hours, so its head is copied first.

use bytes::Bytes;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri};

/// Copies what the head has of its read buffer. It says the same as before, byte for byte.
pub(crate) fn detach(parts: &mut Parts) {
    if let Some(uri) = copied(&parts.uri) {
        parts.uri = uri;
    }
    for value in parts.headers.values_mut() {
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
}

fn copied(uri: &Uri) -> Option<Uri> {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let mut parts = uri.clone().into_parts();
    if let Some(path) = &mut parts.path_and_query {
        *path = PathAndQuery::from_maybe_shared(bytes(path.as_str())).ok()?;
    }
    if let Some(authority) = &mut parts.authority {
        *authority = Authority::from_maybe_shared(bytes(authority.as_str())).ok()?;
    }
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use http::{Request, Version};

    use super::*;

    /// A head made of slices of one buffer, as the libraries make them.
    fn read_from(buffer: &Bytes, target: &str, value: &str) -> Parts {
        let slice = |text: &str| {
            let at = buffer.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
            buffer.slice(at..at + text.len())
        };
        let uri = Uri::from_maybe_shared(slice(target)).unwrap();
        let mut value = HeaderValue::from_maybe_shared(slice(value)).unwrap();
        value.set_sensitive(true);
        let request = Request::builder().version(Version::HTTP_11).uri(uri).header(AUTHORIZATION, value);
        request.body(()).unwrap().into_parts().0
    }

    /// After it was detached, a head keeps nothing of the buffer it came in, and says the same as before.
    #[test]
    fn a_detached_head_says_the_same_and_lets_go_of_its_buffer() {
        let (origin, absolute) =
            ("/api/v1/pods?watch=1&x=%2f;é", "https://k8s.example.com:8443/api/v1?watch");
        for target in [origin, absolute, "https://k8s.example.com?watch", "*"] {
            let buffer =
                Bytes::from(format!("GET {target} HTTP/1.1\r\nauthorization: Bearer se cret\r\n\r\n"));
            let mut parts = read_from(&buffer, target, "Bearer se cret");
            let before = parts.uri.clone();
            detach(&mut parts);
            assert_eq!(parts.uri, before);
            let exact = |uri: &Uri| uri.path_and_query().map(|path| path.as_str().to_owned());
            assert_eq!(exact(&parts.uri), exact(&before));
            let value = &parts.headers[AUTHORIZATION];
            assert_eq!(value, "Bearer se cret");
            assert!(value.is_sensitive(), "a secret stays marked as one");
            drop(before);
            assert!(buffer.is_unique(), "{target}: something of the head is still a slice of its buffer");
        }
    }
}
