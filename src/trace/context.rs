//! Which trace a request belongs to: W3C Trace Context, <https://www.w3.org/TR/trace-context/>.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Sampler;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `version-trace_id-parent_id-flags` in version 00. A later one may have more behind another `-`.
const TRACEPARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;

/// The place of one exchange in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Shared by all spans of the trace.
    pub(crate) id: [u8; 16],
    /// The caller's span; `None` where this exchange begins the trace.
    pub(crate) parent: Option<[u8; 8]>,
    /// Our span for the whole exchange.
    pub(crate) server: [u8; 8],
    /// Our span for the API server's part of it. Upstream is told this one.
    pub(crate) client: [u8; 8],
    /// Whether its spans are sent.
    pub(crate) is_sampled: bool,
}

/// What a valid `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
}

impl Trace {
    /// The caller's trace where it names one, else a new one.
    pub(super) fn of(headers: &HeaderMap, sampler: Sampler) -> Self {
        let parent = Parent::of(headers);
        let id = parent.map_or_else(random, |parent| parent.trace);
        let by_parent = parent.filter(|_| sampler.follows_parent).map(|parent| parent.is_sampled);
        Self {
            id,
            parent: parent.map(|parent| parent.span),
            server: random(),
            client: random(),
            is_sampled: by_parent.unwrap_or_else(|| is_in_share(&id, sampler.share)),
        }
    }

    /// Says upstream that our client span is its parent. `tracestate` belongs to the trace that the caller named, so it is
    /// dropped with one that was not valid.
    pub(crate) fn set(&self, headers: &mut HeaderMap) {
        if self.parent.is_none() {
            headers.remove(TRACESTATE);
        }
        // Of the flags only this one: Go's library, and so the API server, refuses a version 00 with unknown ones.
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        let text = format!("00-{}-{}-{flags:02x}", Hex(&self.id), Hex(&self.client));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

impl Parent {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).into_iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        Self::parse(line.as_bytes())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let [version] = unhex(text.get(..2)?)?;
        let ends_well = match text.get(TRACEPARENT_BYTES) {
            None => true,
            Some(next) => version > 0 && *next == b'-',
        };
        let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
        if version == 0xff || !ends_well || !dashes {
            return None;
        }
        let trace: [u8; 16] = unhex(&text[3..35])?;
        let span: [u8; 8] = unhex(&text[36..52])?;
        let [flags] = unhex(text.get(53..TRACEPARENT_BYTES)?)?;
        let is_valid = trace != [0; 16] && span != [0; 8];
        is_valid.then_some(Self { trace, span, is_sampled: flags & SAMPLED != 0 })
    }
}

/// Whether a trace is among the sampled share. Judged by the id's last seven bytes and a half, as OpenTelemetry's Go library
/// judges it: with the same share at both, both sample the same traces.
fn is_in_share(trace: &[u8; 16], share: f64) -> bool {
    const RANGE: f64 = (1_u64 << 63) as f64;
    if share >= 1.0 {
        return true;
    }
    let [.., a, b, c, d, e, f, g, h] = *trace;
    let drawn = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    // A share needs no 63 digits.
    (drawn as f64) < share * RANGE
}

/// A random id, which is never all zero.
fn random<const N: usize>() -> [u8; N] {
    let mut id = [0; N];
    // Ids keep no secret. Should the system ever give no randomness, one that is the same each time is still a valid one.
    if aws_lc_rs::rand::fill(&mut id).is_err() || id == [0; N] {
        id = [1; N];
    }
    id
}

/// From hexadecimal digits; of the letters only small ones, as the standard demands.
fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Prints bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALWAYS: Sampler = Sampler { follows_parent: true, share: 1.0 };
    const NEVER: Sampler = Sampler { follows_parent: true, share: 0.0 };
    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        lines.iter().map(line).collect()
    }

    fn outgoing(lines: &[(&'static str, &str)], sampler: Sampler) -> (Trace, HeaderMap) {
        let mut headers = headers(lines);
        let trace = Trace::of(&headers, sampler);
        trace.set(&mut headers);
        (trace, headers)
    }

    /// A trace that the caller names goes on with its state, under a span of ours.
    #[test]
    fn a_callers_trace_goes_on() {
        let (trace, headers) = outgoing(&[("traceparent", GIVEN), ("tracestate", "a=1,b=2")], NEVER);
        let told = headers["traceparent"].to_str().unwrap();
        assert!(told.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && told.ends_with("-01"), "{told}");
        assert_eq!(told[36..52], Hex(&trace.client).to_string());
        assert_eq!(Hex(&trace.parent.unwrap()).to_string(), "00f067aa0ba902b7");
        assert_eq!(headers["tracestate"], "a=1,b=2");
        assert_ne!(trace.client, trace.server);
    }

    /// What is not valid is replaced by a trace of our own, and its state goes with it.
    #[test]
    fn an_invalid_trace_is_replaced() {
        for bad in [
            "",
            "nonsense",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            let (trace, headers) = outgoing(&[("traceparent", bad), ("tracestate", "a=1")], ALWAYS);
            assert_eq!(trace.parent, None, "{bad}");
            assert_ne!(Hex(&trace.id).to_string(), GIVEN[3..35], "{bad}");
            assert_eq!(headers.get("tracestate"), None, "{bad}");
            assert!(Parent::of(&headers).is_some_and(|told| told.is_sampled), "{bad}");
        }
        let (trace, headers) = outgoing(&[("traceparent", GIVEN), ("traceparent", GIVEN)], ALWAYS);
        assert_eq!((trace.parent, headers.get_all("traceparent").iter().count()), (None, 1));
    }

    /// A version of the standard that is not there yet is read as far as it is known; unknown flags are not passed on.
    #[test]
    fn later_versions_are_read() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-the-future-brings";
        let (trace, headers) = outgoing(&[("traceparent", later)], NEVER);
        assert!(trace.is_sampled && trace.parent.is_some());
        let told = headers["traceparent"].to_str().unwrap();
        assert!(told.starts_with("00-") && told.ends_with("-01"), "{told}");
    }

    /// Who calls decides, where the sampler says so; else the share does, by the trace's id.
    #[test]
    fn the_parent_decides_or_the_share() {
        let sampled = |flags: &str, follows_parent, share| {
            let given = format!("{}{flags}", &GIVEN[..53]);
            outgoing(&[("traceparent", &given)], Sampler { follows_parent, share }).0.is_sampled
        };
        assert!(sampled("01", true, 0.0) && !sampled("00", true, 1.0));
        assert!(!sampled("01", false, 0.0) && sampled("00", false, 1.0));
        // Of GIVEN's id the last eight bytes are 0xa3ce…, which is 0.64 of their range.
        assert!(sampled("00", false, 0.65) && !sampled("01", false, 0.63));
        let fresh = (0..1_000).filter(|_| outgoing(&[], Sampler { share: 0.5, ..ALWAYS }).0.is_sampled);
        assert!((300..700).contains(&fresh.count()));
    }

    proptest! {
        /// Whatever comes in, what goes out is valid, and is ours.
        #[test]
        fn what_goes_out_is_valid(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|[ -~]{0,80}") {
            let (trace, headers) = outgoing(&[("traceparent", &text)], NEVER);
            let told = Parent::of(&headers).unwrap();
            let ours = Parent { trace: trace.id, span: trace.client, is_sampled: trace.is_sampled };
            prop_assert_eq!(told, ours);
        }
    }
}
