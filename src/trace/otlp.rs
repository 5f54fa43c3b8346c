//! Spans as the OpenTelemetry protocol wants them: Protocol Buffers, written by hand.
//!
//! Source: `opentelemetry/proto/trace/v1/trace.proto` and its neighbours `common`, `resource` and `collector/trace`, version
//! 1. The numbers below are those of their fields.

use jiff::Timestamp;

use crate::secret::without_tokens;

/// The longest text of an attribute, in bytes; what is longer is cut. A path can be 120 KiB long, and spans wait in memory.
const MAX_TEXT_BYTES: usize = 512;

/// What a span is of its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// We were asked.
    Server,
    /// We asked.
    Client,
}

/// An attribute's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number, zero or more.
    Number(u64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Span<'a> {
    /// The id of its trace.
    pub(crate) trace: [u8; 16],
    /// Its own.
    pub(crate) id: [u8; 8],
    /// The span that it belongs to.
    pub(crate) parent: Option<[u8; 8]>,
    /// The parent is a span of another process.
    pub(crate) has_remote_parent: bool,
    /// Of which there are few: never a path.
    pub(crate) name: &'a str,
    /// Server or client.
    pub(crate) kind: Kind,
    /// Its beginning.
    pub(crate) began: Timestamp,
    /// Its end.
    pub(crate) ended: Timestamp,
    /// Attributes; those with an empty text are left out.
    pub(crate) attributes: Vec<(&'static str, Value<'a>)>,
    /// Something that happened in between, and when.
    pub(crate) event: Option<(&'static str, Timestamp)>,
    /// It failed.
    pub(crate) is_error: bool,
}

/// `Span`, without the tag that [`request`] puts before it.
pub(super) fn span(span: &Span<'_>) -> Vec<u8> {
    /// `SpanFlags`: sampled; whether the parent is remote is known; it is.
    const SAMPLED: u32 = 0x1;
    const KNOWS_PARENT: u32 = 0x100;
    const REMOTE_PARENT: u32 = 0x200;
    const STATUS_CODE_ERROR: u64 = 2;

    let mut m = Message::default();
    m.bytes(1, &span.trace);
    m.bytes(2, &span.id);
    if let Some(parent) = &span.parent {
        m.bytes(4, parent);
    }
    m.bytes(5, span.name.as_bytes());
    m.number(
        6,
        match span.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
    );
    m.fixed64(7, nanos(span.began));
    m.fixed64(8, nanos(span.ended));
    for (key, value) in &span.attributes {
        if !matches!(value, Value::Text("")) {
            m.message(9, |m| attribute(m, key, *value));
        }
    }
    if let Some((name, at)) = span.event {
        m.message(11, |m| {
            m.fixed64(1, nanos(at));
            m.bytes(2, name.as_bytes());
        });
    }
    if span.is_error {
        m.message(15, |m| m.number(3, STATUS_CODE_ERROR));
    }
    let parent = if span.has_remote_parent { REMOTE_PARENT } else { 0 };
    m.fixed32(16, SAMPLED | KNOWS_PARENT | parent);
    m.0
}

/// `Resource`: what is said of this process.
pub(super) fn resource<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut m = Message::default();
    for (key, value) in attributes {
        m.message(1, |m| attribute(m, key, Value::Text(value)));
    }
    m.0
}

/// `ExportTraceServiceRequest` with spans of this process, each as [`span`] made it.
pub(super) fn request(resource: &[u8], spans: &[Box<[u8]>]) -> Vec<u8> {
    let mut m = Message(Vec::with_capacity(spans.iter().map(|span| span.len() + 8).sum::<usize>() + 512));
    // ResourceSpans, of which there is one, and in it one ScopeSpans.
    m.message(1, |m| {
        m.bytes(1, resource);
        m.message(2, |m| {
            m.message(1, |m| {
                m.bytes(1, b"entrada");
                m.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for span in spans {
                m.bytes(2, span);
            }
        });
    });
    m.0
}

/// `KeyValue`.
fn attribute(m: &mut Message, key: &str, value: Value<'_>) {
    m.bytes(1, key.as_bytes());
    m.message(2, |m| match value {
        Value::Text(text) => {
            // Somebody may have pasted a token into a path.
            let text = without_tokens(text);
            m.bytes(1, &text.as_bytes()[..text.floor_char_boundary(MAX_TEXT_BYTES)]);
        }
        Value::Number(number) => m.number(3, number),
    });
}

/// Since 1970; a time before it is 0.
fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

/// A message under way. Source: "Encoding" of protobuf.dev.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    const VARINT: u32 = 0;
    const FIXED64: u32 = 1;
    const DELIMITED: u32 = 2;
    const FIXED32: u32 = 5;

    fn tag(&mut self, field: u32, wire: u32) {
        self.varint((field << 3 | wire).into());
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u32, value: u64) {
        self.tag(field, Self::VARINT);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, Self::FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, Self::FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, Self::DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::trace::v1::{self, SpanFlags, span::SpanKind, status::StatusCode};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn text(key: &str, value: &str) -> KeyValue {
        let value = any_value::Value::StringValue(value.to_owned());
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn number(key: &str, value: i64) -> KeyValue {
        let value = any_value::Value::IntValue(value);
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanosecond(nanos.into()).unwrap()
    }

    fn plain() -> Span<'static> {
        Span {
            trace: [7; 16],
            id: [8; 8],
            parent: None,
            has_remote_parent: false,
            name: "list pods",
            kind: Kind::Server,
            began: at(1_800_000_000_000_000_001),
            ended: at(1_800_000_000_000_000_002),
            attributes: Vec::new(),
            event: None,
            is_error: false,
        }
    }

    fn decoded(sent: &Span<'_>) -> v1::Span {
        v1::Span::decode(&*span(sent)).unwrap()
    }

    /// Every field is read back as it was, by OpenTelemetry's own types.
    #[test]
    fn a_span_is_read_back_as_it_was() {
        let sent = Span {
            parent: Some([9; 8]),
            has_remote_parent: true,
            kind: Kind::Client,
            attributes: vec![
                ("url.path", Value::Text("/api/ü")),
                ("none", Value::Text("")),
                ("http.response.status_code", Value::Number(300)),
            ],
            event: Some(("response head", at(5))),
            is_error: true,
            ..plain()
        };
        let read = decoded(&sent);
        let flags = 1 | SpanFlags::ContextHasIsRemoteMask as u32 | SpanFlags::ContextIsRemoteMask as u32;
        let expected = v1::Span {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            parent_span_id: vec![9; 8],
            name: "list pods".to_owned(),
            kind: SpanKind::Client as i32,
            start_time_unix_nano: 1_800_000_000_000_000_001,
            end_time_unix_nano: 1_800_000_000_000_000_002,
            attributes: vec![text("url.path", "/api/ü"), number("http.response.status_code", 300)],
            events: vec![v1::span::Event {
                time_unix_nano: 5,
                name: "response head".to_owned(),
                ..v1::span::Event::default()
            }],
            status: Some(v1::Status { code: StatusCode::Error as i32, ..v1::Status::default() }),
            flags,
            ..v1::Span::default()
        };
        assert_eq!(read, expected);
        let plain = decoded(&plain());
        assert_eq!((plain.kind, plain.status, plain.flags), (SpanKind::Server as i32, None, 0x101));
        assert!(plain.parent_span_id.is_empty() && plain.events.is_empty());
    }

    /// A batch says once who sends it.
    #[test]
    fn a_batch_is_read_back_as_it_was() {
        let spans =
            [span(&plain()).into_boxed_slice(), span(&Span { id: [1; 8], ..plain() }).into_boxed_slice()];
        let resource = resource([("service.name", "entrada")].into_iter());
        let read = ExportTraceServiceRequest::decode(&*request(&resource, &spans)).unwrap();
        let [of_resource] = &read.resource_spans[..] else { panic!("{read:?}") };
        assert_eq!(of_resource.resource.as_ref().unwrap().attributes, [text("service.name", "entrada")]);
        let [of_scope] = &of_resource.scope_spans[..] else { panic!("{read:?}") };
        assert_eq!(of_scope.scope.as_ref().unwrap().name, "entrada");
        assert_eq!(of_scope.spans, [decoded(&plain()), decoded(&Span { id: [1; 8], ..plain() })]);
    }

    /// A trace goes to people who may not act as the user.
    #[test]
    fn no_token_is_told() {
        let path = format!("/api/entrada_{}/x", "hunter2".repeat(7));
        let read = decoded(&Span { attributes: vec![("url.path", Value::Text(&path))], ..plain() });
        assert_eq!(read.attributes, [text("url.path", "/api/REDACTED/x")]);
    }

    /// Long texts are cut, between two characters.
    #[test]
    fn long_texts_are_cut() {
        let long = format!("x{}", "ü".repeat(MAX_TEXT_BYTES));
        let read = decoded(&Span { attributes: vec![("url.path", Value::Text(&long))], ..plain() });
        assert_eq!(read.attributes, [text("url.path", &long[..MAX_TEXT_BYTES - 1])]);
    }

    proptest! {
        /// Any number and any text come back.
        #[test]
        fn any_value_is_read_back(count in 0..i64::MAX, word in "\\PC{1,99}") {
            let attributes = vec![("n", Value::Number(count.unsigned_abs())), ("t", Value::Text(&word))];
            let read = decoded(&Span { attributes, ..plain() });
            prop_assert_eq!(read.attributes, [number("n", count), text("t", &word)]);
        }
    }
}
