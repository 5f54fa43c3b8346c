//! The thread that writes the log.

use std::io;
use std::thread;
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::{write_beginning, write_end};
use crate::metrics::{LOG_LINES, LOG_QUEUE_BYTES};
use crate::outbox::{Batch, Counters, Gathering, Inbox, Outbox, outbox};

/// Lines that wait for standard output: some seconds of the busiest replica's log.
const BOUND_BYTES: usize = 4 * 1024 * 1024;
/// Long enough that a busy process writes many lines at once, and short enough that nobody sees the delay.
const GATHERING: Gathering = Gathering { time: Duration::from_millis(10), lines: 1_000 };
/// For the last lines, when the process ends; a pipe that nobody reads must not hold it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The log. When it is dropped (at the end of the program, or while a panic unwinds it), what was logged is written, as
/// far as standard output takes it within a second.
#[derive(Debug)]
pub(crate) struct Log {
    outbox: Outbox,
}

/// Hands each event's line to the log.
#[derive(Clone, Debug)]
pub(crate) struct LineWriter(Outbox);

impl Log {
    /// Starts a thread that writes with `write`, which is given whole lines.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let counters = Counters {
            written: LOG_LINES.with_label_values(&["written"]),
            dropped: LOG_LINES.with_label_values(&["dropped"]),
            queued: LOG_QUEUE_BYTES.clone(),
        };
        Self::start_with(BOUND_BYTES, counters, write)
    }

    fn start_with(
        bound_bytes: usize,
        counters: Counters,
        write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (outbox, inbox) = outbox(bound_bytes, GATHERING, counters);
        thread::Builder::new().name("log".to_owned()).spawn(move || run(&inbox, write))?;
        Ok(Self { outbox })
    }

    /// Where events are logged.
    pub(crate) fn writer(&self) -> LineWriter {
        LineWriter(self.outbox.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Nobody is left to be told of a loss: the reader of the log is what is stuck.
        let _lost = self.outbox.close(LAST_WORDS);
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = &'a LineWriter;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl io::Write for &LineWriter {
    /// The subscriber writes each event with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What is not accepted is counted, and no error of the event's.
        let _accepted = self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(inbox: &Inbox, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut batch = Batch::default();
    while inbox.next(&mut batch) {
        let bytes = batch.bytes.len();
        if batch.dropped > 0 {
            batch.bytes.extend_from_slice(tell(batch.dropped).as_bytes());
        }
        match write(&batch.bytes) {
            Ok(()) => inbox.written(bytes, batch.lines),
            // Whoever read standard output has gone: there is nothing to wait for.
            Err(_) => inbox.lost(bytes, batch.lines),
        }
    }
}

/// A line of the log's own. It cannot be an event: the log's writer must not wait in its own queue.
fn tell(dropped: u64) -> String {
    let mut line = String::new();
    let _infallible = write_beginning(&mut line, Level::WARN);
    line.push_str(r#","message":"log lines were dropped: standard output was not read fast enough""#);
    line.push_str(&format!(",\"dropped\":{dropped}"));
    let _infallible = write_end(&mut line, module_path!());
    line
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    use prometheus::{IntCounter, IntGauge};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    type Bytes = Arc<Mutex<Vec<u8>>>;

    /// A pipe whose reader is slow: each write waits for a word from the test.
    fn slow(reader: Receiver<()>) -> (Bytes, impl FnMut(&[u8]) -> io::Result<()> + Send) {
        let read = Bytes::default();
        let pipe = read.clone();
        let write = move |lines: &[u8]| {
            let _gone = reader.recv();
            pipe.lock().unwrap().extend_from_slice(lines);
            Ok(())
        };
        (read, write)
    }

    fn log(bound_bytes: usize, write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Log {
        let counter = |name: &str| IntCounter::new(name, "x").unwrap();
        let counters = Counters {
            written: counter("written"),
            dropped: counter("dropped"),
            queued: IntGauge::new("queued", "x").unwrap(),
        };
        Log::start_with(bound_bytes, counters, write).unwrap()
    }

    /// While the pipe is full events are dropped and nobody waits; when it flows again, whole lines come, the loss is said
    /// once, and the log goes on.
    #[test]
    fn a_loss_is_said_when_the_log_flows_again() {
        let (go_on, reader) = channel();
        let (read, write) = slow(reader);
        let log = log(2_000, write);
        let events =
            tracing_subscriber::fmt::layer().event_format(super::super::JsonLine).with_writer(log.writer());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(events), || {
            for number in 0..100 {
                tracing::info!(number, "event");
            }
        });
        drop(go_on);
        drop(log);
        let text = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = lines.iter().filter(|line| line["level"] == "WARN").collect();
        assert_eq!(told.len(), 1, "{text}");
        let kept = lines.len() as u64 - 1;
        assert!(kept > 5, "{text}");
        assert_eq!(told[0]["dropped"], 100 - kept);
    }

    /// A panic that ends the program does not take the last lines with it.
    #[test]
    fn what_was_logged_before_a_panic_is_written() {
        let (go_on, reader) = channel();
        drop(go_on);
        let (read, write) = slow(reader);
        let log = log(2_000, write);
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            io::Write::write_all(&mut &log.writer(), b"the last words\n").unwrap();
            panic!("as a program may");
        }));
        assert!(panicked.is_err());
        assert_eq!(*read.lock().unwrap(), b"the last words\n");
    }

    /// Where nobody reads any more, lines are counted as dropped, and the end of the program is not held up.
    #[test]
    fn a_reader_that_has_gone_stops_nothing() {
        let log = log(2_000, |_| Err(io::ErrorKind::BrokenPipe.into()));
        let outbox = log.outbox.clone();
        assert!(outbox.push(b"nobody reads this\n"));
        drop(log);
        assert!(!outbox.push(b"too late\n"));
    }
}
