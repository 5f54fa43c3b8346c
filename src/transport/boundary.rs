//! Where one event of a watch ends and the next begins: after a line break in JSON, after a whole frame in protobuf.

use http::HeaderValue;

/// Follows a watch's bytes.
#[derive(Debug)]
pub(super) enum Boundary {
    /// JSON: one event a line.
    Lines { between: bool },
    /// Protobuf: a length of four bytes, big-endian, before each event.
    Frames { prefix: Vec<u8>, left: u64 },
}

impl Boundary {
    /// By the content type of a watch's answer; `None` for one whose events we cannot tell apart.
    pub(super) fn of(content_type: Option<&HeaderValue>) -> Option<Self> {
        let content_type = content_type?.to_str().ok()?;
        if content_type.starts_with("application/json") {
            Some(Self::Lines { between: true })
        } else if content_type.starts_with("application/vnd.kubernetes.protobuf") {
            Some(Self::Frames { prefix: Vec::with_capacity(4), left: 0 })
        } else {
            None
        }
    }

    /// Whether all events that were begun are whole.
    pub(super) fn is_here(&self) -> bool {
        match self {
            Self::Lines { between } => *between,
            Self::Frames { prefix, left } => prefix.is_empty() && *left == 0,
        }
    }

    pub(super) fn pass(&mut self, mut data: &[u8]) {
        match self {
            Self::Lines { between } => {
                if let Some(last) = data.last() {
                    *between = *last == b'\n';
                }
            }
            Self::Frames { prefix, left } => {
                while let Some(first) = data.first() {
                    if *left > 0 {
                        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                        *left -= taken as u64;
                        data = &data[taken..];
                        continue;
                    }
                    prefix.push(*first);
                    data = &data[1..];
                    if let [a, b, c, d] = prefix[..] {
                        *left = u64::from(u32::from_be_bytes([a, b, c, d]));
                        prefix.clear();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON events end with their line.
    #[test]
    fn json_is_between_events_after_a_line_break() {
        let mut boundary = Boundary::of(Some(&HeaderValue::from_static("application/json"))).unwrap();
        assert!(boundary.is_here());
        boundary.pass(b"{\"type\":\"ADD");
        assert!(!boundary.is_here());
        boundary.pass(b"ED\"}\n");
        assert!(boundary.is_here());
    }

    /// An encoding that we do not know has no end that we could vouch for.
    #[test]
    fn an_unknown_encoding_has_no_boundary() {
        assert!(Boundary::of(Some(&HeaderValue::from_static("application/cbor-seq"))).is_none());
        assert!(Boundary::of(None).is_none());
    }

    /// Protobuf events end with their frame, however the bytes are cut.
    #[test]
    fn protobuf_is_between_events_after_a_frame() {
        let kind = HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");
        let bytes = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0], &[0, 0, 1, 0], &[b'\n'; 256]].concat();
        let ends = [0, 7, 11, 271];
        for cut in 0..=bytes.len() {
            let mut boundary = Boundary::of(Some(&kind)).unwrap();
            boundary.pass(&bytes[..cut]);
            assert_eq!(boundary.is_here(), ends.contains(&cut), "{cut}");
            boundary.pass(&bytes[cut..]);
            assert!(boundary.is_here());
        }
    }
}
