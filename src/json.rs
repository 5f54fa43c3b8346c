//! JSON text, piece by piece, for the lines that each request has in the log and in the audit log. A general serializer or
//! the standard library's formatting costs several times as much. It is written as bytes, because a line is all that it is
//! for; each text in it is one that was a `str`.

mod time;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

pub(crate) use self::time::Time;

/// A line longer than this does not leave its memory with the thread.
const KEPT_LINE_BYTES: usize = 16 * 1024;

thread_local! {
    /// The line that is being written: none costs an allocation of its own.
    static LINE: Cell<Vec<u8>> = Cell::default();
}

/// `,"name":` as one literal: putting the pieces together for each line costs more than what they say.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(crate) use key;

/// Lends an empty line.
pub(crate) fn with_line<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // A record may be dropped while its thread ends: then there is none to lend.
    let mut line = LINE.try_with(Cell::take).unwrap_or_default();
    line.clear();
    let written = write(&mut line);
    line.shrink_to(KEPT_LINE_BYTES);
    let _thread_ends = LINE.try_with(|own| own.set(line));
    written
}

/// `"value"`
pub(crate) fn string(text: &mut Vec<u8>, value: &str) {
    text.push(b'"');
    let mut rest = value.as_bytes();
    while let Some(at) = first_escaped(rest) {
        text.extend_from_slice(&rest[..at]);
        text.extend_from_slice(escape(rest[at]).as_bytes());
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
    text.push(b'"');
}

/// A [`key!`] and `"value"`.
pub(crate) fn field(text: &mut Vec<u8>, key: &str, value: &str) {
    text.extend_from_slice(key.as_bytes());
    string(text, value);
}

/// `{`, the fields that `write` writes, and `}`.
pub(crate) fn object(text: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = text.len();
    write(text);
    // Each field begins with a comma, the first one in the place of the bracket.
    match text.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => text.push(b'{'),
    }
    text.push(b'}');
}

/// Decimal digits.
pub(crate) fn number(text: &mut Vec<u8>, value: u64) {
    let mut places = [0; 20];
    let (mut start, mut rest) = (places.len(), value);
    loop {
        start -= 1;
        places[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&places[start..]);
}

/// A length of time in seconds, to the microsecond: `0.000751`
pub(crate) fn seconds(text: &mut Vec<u8>, time: Duration) {
    number(text, time.as_secs());
    let mut places = *b".000000";
    time::digits(&mut places[1..], time.subsec_micros());
    text.extend_from_slice(&places);
}

/// `"192.0.2.1"`
pub(crate) fn address(text: &mut Vec<u8>, address: IpAddr) {
    text.push(b'"');
    match address {
        IpAddr::V4(address) => {
            for (at, part) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push(b'.');
                }
                if part >= 100 {
                    text.push(b'0' + part / 100);
                }
                if part >= 10 {
                    text.push(b'0' + part / 10 % 10);
                }
                text.push(b'0' + part % 10);
            }
        }
        IpAddr::V6(address) => {
            let _infallible = write!(text, "{address}");
        }
    }
    text.push(b'"');
}

/// Writes text into a JSON string (RFC 8259, section 7).
pub(crate) struct Escaped<'a, W>(pub(crate) &'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        // All that is escaped is ASCII, so that the text is never cut within a character.
        while let Some(at) = first_escaped(rest.as_bytes()) {
            self.0.write_str(&rest[..at])?;
            self.0.write_str(&escape(rest.as_bytes()[at]))?;
            rest = &rest[at + 1..];
        }
        self.0.write_str(rest)
    }
}

fn escape(byte: u8) -> Cow<'static, str> {
    match byte {
        b'"' => r#"\""#.into(),
        b'\\' => r"\\".into(),
        b'\n' => r"\n".into(),
        byte => format!("\\u{byte:04x}").into(),
    }
}

/// Where the first byte stands that must be escaped. Each request has about forty texts, and hardly any has one.
fn first_escaped(text: &[u8]) -> Option<usize> {
    let is_escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without a branch for each byte, the compiler looks at all sixteen at once.
    let has_none = |chunk: &&[u8; 16]| !chunk.iter().fold(false, |found, byte| found | is_escaped(*byte));
    let plain = 16 * text.as_chunks::<16>().0.iter().take_while(has_none).count();
    if text.len() < plain + 16 && text.last_chunk::<16>().is_some_and(|last| has_none(&last)) {
        return None;
    }
    text[plain..].iter().position(|byte| is_escaped(*byte)).map(|at| plain + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8(text).unwrap()
    }

    proptest! {
        /// Whatever a client sends, it cannot break out of its string.
        #[test]
        fn any_text_comes_back_as_it_was(value in "\\PC*|[\u{0}-\u{1f}\"\\\\]*|[ -~]{0,40}[\n\"ü][ -~]{0,40}") {
            let text = written(|text| string(text, &value));
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
            prop_assert!(!text.contains('\n'));
        }

        /// Numbers, times and addresses are written as the standard library writes them.
        #[test]
        fn values_are_written_as_usual(value: u64, micros in 0..=u64::from(u32::MAX), ip: IpAddr) {
            prop_assert_eq!(written(|text| number(text, value)), value.to_string());
            let time = Duration::from_micros(micros);
            prop_assert_eq!(written(|text| seconds(text, time)), format!("{:.6}", time.as_secs_f64()));
            prop_assert_eq!(written(|text| address(text, ip)), format!("\"{ip}\""));
        }
    }
}
