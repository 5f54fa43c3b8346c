//! Structured logs: JSON lines on standard output, written by a thread of their own.
//!
//! Nobody waits for standard output: where its reader does not keep up, lines are dropped and counted, and the log says
//! how many as soon as it flows again.

mod stdout;
mod writer;

use std::fmt::{self, Write as _};
use std::io;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use self::stdout::write_to_stdout;
pub(crate) use self::writer::Log;
use crate::clock::Clock;
use crate::json::{Escaped, Time};

/// Starts logging to standard output, filtered by `filter`. Call it once. The log ends with what it returns.
///
/// # Errors
/// When the writer's thread cannot be started.
pub(crate) fn init(filter: EnvFilter) -> io::Result<Log> {
    let log = Log::start(write_to_stdout)?;
    init_with(log.writer(), filter);
    Ok(log)
}

/// Starts logging to a writer of the caller's: tests read what was logged.
pub fn init_with<W>(writer: W, filter: EnvFilter)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = tracing_subscriber::fmt::layer().event_format(JsonLine).with_writer(writer);
    tracing_subscriber::registry().with(filter).with(json).init();
}

/// A field of this name holds further fields as JSON: `,"name":"value",…`. So what each request logs is put together
/// without a call for each field, which costs four times as much.
pub(crate) const FIELDS: &str = "fields";

/// One event as one line: time, level, the event's own fields, target. The library's own JSON format costs a request
/// about twice as much.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write_beginning(&mut writer, *event.metadata().level())?;
        let mut fields = Fields { writer: &mut writer, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        write_end(&mut writer, event.metadata().target())
    }
}

/// `{"timestamp":"…","level":"…"`
fn write_beginning(line: &mut impl fmt::Write, level: Level) -> fmt::Result {
    line.write_str("{\"timestamp\":\"")?;
    line.write_str(Time::of(Clock::system().now()).as_str())?;
    line.write_str("\",\"level\":\"")?;
    line.write_str(level.as_str())?;
    line.write_str("\"")
}

/// `,"target":"…"}`
fn write_end(line: &mut impl fmt::Write, target: &str) -> fmt::Result {
    line.write_str(",\"target\":\"")?;
    line.write_str(target)?;
    line.write_str("\"}\n")
}

/// Writes each field as `,"name":value`.
struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = write_name(self.writer, field.name()).and_then(|()| value(self.writer));
        }
    }
}

fn write_name(writer: &mut Writer<'_>, name: &str) -> fmt::Result {
    writer.write_str(",\"")?;
    writer.write_str(name)?;
    writer.write_str("\":")
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == FIELDS {
            self.result = self.result.and_then(|()| self.writer.write_str(value));
            return;
        }
        self.write(field, |writer| {
            writer.write_char('"')?;
            Escaped(writer).write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows no infinity and no NaN.
        self.write(field, |writer| {
            if value.is_finite() { write!(writer, "{value}") } else { writer.write_str("null") }
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What an event looks like, parsed again.
    fn logged(event: impl FnOnce()) -> serde_json::Value {
        let sink = Sink::default();
        let writer = sink.clone();
        let json =
            tracing_subscriber::fmt::layer().event_format(JsonLine).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(json), event);
        let bytes = sink.0.lock().unwrap().clone();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1, "one event, one line");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Every kind of field is what it was; optional ones that are none are left out.
    #[test]
    fn an_event_is_one_line_of_json() {
        let line = logged(|| {
            let none: Option<&str> = None;
            tracing::warn!(
                text = "a \"b\" \\ \n\u{1}ü",
                shown = %"c:\\d",
                number = 7_u16,
                share = 0.5,
                endless = f64::INFINITY,
                yes = true,
                none,
                "it happened"
            );
        });
        assert_eq!(line["message"], "it happened");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["text"], "a \"b\" \\ \n\u{1}ü");
        assert_eq!((&line["shown"], &line["number"]), (&"c:\\d".into(), &7.into()));
        assert_eq!((&line["share"], &line["yes"]), (&0.5.into(), &true.into()));
        assert!(line["endless"].is_null() && line.get("none").is_none());
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(line["target"].as_str().unwrap().starts_with("entrada::log"));
    }

    /// Fields that are JSON already are taken as they are.
    #[test]
    fn fields_that_are_json_stand_beside_the_others() {
        let line = logged(|| tracing::info!(fields = r#","a":"b \"c\"","d":1"#, e = 2, "event"));
        assert_eq!((&line["message"], &line["a"]), (&"event".into(), &"b \"c\"".into()));
        assert_eq!((&line["d"], &line["e"]), (&1.into(), &2.into()));
        assert!(line.get(FIELDS).is_none());
    }

    proptest! {
        /// Whatever a client sends, it cannot break out of its field or its line.
        #[test]
        fn any_text_comes_back_as_it_was(text in "\\PC*|[\u{0}-\u{1f}\"\\\\]*|[ -~]{0,40}[\n\"ü][ -~]{0,40}") {
            let line = logged(|| tracing::warn!(text, shown = %text, "event"));
            prop_assert_eq!(line["text"].as_str(), Some(text.as_str()));
            prop_assert_eq!(line["shown"].as_str(), Some(text.as_str()));
        }
    }
}
