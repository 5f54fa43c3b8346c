//! A path as readers take it: as the API server does (decoded), and as a stricter reader would (decoded and cleaned).

use std::borrow::Cow;

/// The first segments of a path. No rule looks further.
const LOOKED_AT: usize = 10;

/// A path, cut into segments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segments<'a> {
    first: [&'a str; LOOKED_AT],
    count: usize,
}

impl<'a> Segments<'a> {
    fn push(&mut self, segment: &'a str) {
        if let Some(place) = self.first.get_mut(self.count) {
            *place = segment;
        }
        self.count += 1;
    }

    fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// The segments, as far as any rule looks.
    pub(super) fn as_slice(&self) -> &[&'a str] {
        &self.first[..self.count.min(LOOKED_AT)]
    }
}

/// Percent-decodes once, as Go's `net/url` does; what is not valid stays as it is.
pub(super) fn decode(path: &str) -> Cow<'_, str> {
    if !path.as_bytes().contains(&b'%') {
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

/// Segments as the API server cuts them: slashes around the path are trimmed, empty segments inside stay.
pub(super) fn cut(decoded: &str) -> Segments<'_> {
    let mut segments = Segments::default();
    let inner = decoded.trim_matches('/');
    if !inner.is_empty() {
        pieces(inner).for_each(|segment| segments.push(segment));
    }
    segments
}

/// Segments without empty ones and `.`, with `..` resolved.
pub(super) fn clean(decoded: &str) -> Segments<'_> {
    let mut segments = Segments::default();
    for segment in pieces(decoded) {
        match segment {
            "" | "." => {}
            ".." => segments.pop(),
            other => segments.push(other),
        }
    }
    segments
}

/// Whether decoding and cleaning change nothing about where the segments begin and end.
pub(super) fn has_one_reading(path: &str, decoded: &str) -> bool {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let plain_segments = path == "/" || pieces(inner).all(|segment| !matches!(segment, "" | "." | ".."));
    let same_cuts = || {
        let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
        let named = pieces(inner).filter(|segment| !segment.is_empty()).count();
        slashes(path) == slashes(decoded) && clean(decoded).count == named
    };
    plain_segments && !has_odd(decoded) && (path == decoded || same_cuts())
}

fn has_odd(text: &str) -> bool {
    let unusual = |byte: u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'\\' | b'%');
    // Without a branch for each byte, the compiler looks at many at once. Hardly any path has such a byte.
    let any = text.bytes().fold(false, |any, byte| any | unusual(byte));
    any && text.contains(|c: char| c == '\\' || c == '%' || c == '\u{fffd}' || c.is_control())
}

/// What stands between the slashes. `str::split` costs several times as much for pieces as short as these.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let slash = text.bytes().position(|byte| byte == b'/');
        rest = slash.map(|at| &text[at + 1..]);
        Some(&text[..slash.unwrap_or(text.len())])
    })
}
