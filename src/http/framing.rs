//! Where a request's body ends must have one meaning (RFC 9112 section 6). Pure.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

/// Whether any reader would find the same end of the body. Of two lengths, or a length beside an encoding, hyper
/// refuses most itself; this refuses what it lets us see, and every transfer coding that would be lost on the way.
#[must_use]
pub(crate) fn has_one_meaning(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).into_iter();
    let lengths = headers.get_all(CONTENT_LENGTH).into_iter().count();
    match (encodings.next(), encodings.next()) {
        (None, _) => lengths <= 1,
        (Some(encoding), None) => lengths == 0 && encoding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judged(lines: &[(&str, &str)]) -> bool {
        let mut request = Request::builder();
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        has_one_meaning(request.body(()).unwrap().headers())
    }

    /// One length, or `chunked` alone.
    #[test]
    fn only_plain_framing_passes() {
        assert!(judged(&[]));
        assert!(judged(&[("content-length", "5")]));
        assert!(judged(&[("transfer-encoding", "Chunked")]));
        assert!(!judged(&[("content-length", "5"), ("content-length", "5")]));
        assert!(!judged(&[("content-length", "5"), ("transfer-encoding", "chunked")]));
        assert!(!judged(&[("transfer-encoding", "gzip, chunked")]));
        assert!(!judged(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
    }
}
