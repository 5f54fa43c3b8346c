//! The thread that writes events to the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use thiserror::Error;

use crate::log::write_to_stdout;
use crate::outbox::{Batch, Gathering, Inbox};

/// While a sink fails, the log says so this often.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Where events are written to.
pub(super) trait Sink: Send {
    /// How long events gather before they are written.
    fn gathering(&self) -> Gathering {
        Gathering { time: Duration::from_millis(2), lines: 1_000 }
    }

    /// The most that is written at once: bytes and events. One event is always written, however long.
    fn portion(&self) -> (usize, u64) {
        (512 * 1024, u64::MAX)
    }

    /// Writes whole lines: all of them, or none.
    ///
    /// # Errors
    /// When it could not; it is tried again.
    fn write(&mut self, events: &[u8]) -> anyhow::Result<()>;

    /// How long to wait after so many failures.
    fn pause(&self, _failures: u32) -> Duration {
        Duration::from_secs(1)
    }
}

/// The sink takes no portion as large as this one: it is to be written in smaller ones.
#[derive(Debug, Error)]
#[error("the sink takes no portion as large as this")]
pub(super) struct TooLarge;

/// Standard output.
pub(super) struct Stdout;

impl Sink for Stdout {
    fn write(&mut self, events: &[u8]) -> anyhow::Result<()> {
        Ok(write_to_stdout(events)?)
    }
}

/// Takes events from the queue and writes them.
pub(super) struct Writer {
    pub(super) inbox: Inbox,
    pub(super) sink: Box<dyn Sink>,
    /// The last attempt failed: in strict mode, requests are refused.
    pub(super) failing: Arc<AtomicBool>,
    /// Counts attempts that failed.
    pub(super) failures: IntCounter,
}

/// What came of a portion.
enum Attempt {
    Written,
    TooLarge,
    /// There is no time left.
    GivenUp,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        let (mut most_bytes, most_lines) = self.sink.portion();
        while self.inbox.next(&mut batch) {
            if batch.dropped > 0 {
                tracing::warn!(
                    dropped = batch.dropped,
                    "audit events were dropped: the sink is not fast enough"
                );
            }
            let (mut left, mut lines_left) = (&batch.bytes[..], batch.lines);
            while !left.is_empty() {
                let (portion, lines) = first(left, lines_left, (most_bytes, most_lines));
                match self.write(portion) {
                    Attempt::Written => self.inbox.written(portion.len(), lines),
                    // From now on. One that is always too large would stand in the way of all others.
                    Attempt::TooLarge if lines > 1 => {
                        most_bytes = portion.len() / 2;
                        continue;
                    }
                    Attempt::TooLarge => {
                        tracing::error!(
                            bytes = portion.len(),
                            "the sink takes no audit event as large as this"
                        );
                        self.inbox.lost(portion.len(), lines);
                    }
                    Attempt::GivenUp => return,
                }
                left = &left[portion.len()..];
                lines_left -= lines;
            }
        }
    }

    /// Tries until it succeeds, or cannot.
    fn write(&mut self, events: &[u8]) -> Attempt {
        let (mut failures, mut said) = (0, None::<Instant>);
        loop {
            let Err(error) = self.sink.write(events) else { break };
            self.failures.inc();
            if error.is::<TooLarge>() {
                return Attempt::TooLarge;
            }
            self.failing.store(true, Ordering::Relaxed);
            if said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
                said = Some(Instant::now());
                let error = format!("{error:#}");
                tracing::error!(error, failures, "audit events cannot be written; trying again");
            }
            if !self.inbox.nap(self.sink.pause(failures)) {
                return Attempt::GivenUp;
            }
            failures += 1;
        }
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(failures, "audit events are written again");
        }
        Attempt::Written
    }
}

/// The first lines that are a portion, and how many they are.
fn first(lines: &[u8], in_all: u64, (most_bytes, most_lines): (usize, u64)) -> (&[u8], u64) {
    // Usually: then no byte is looked at.
    if lines.len() <= most_bytes && in_all <= most_lines {
        return (lines, in_all);
    }
    let (mut end, mut count) = (0, 0);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if count > 0 && (count == most_lines || end + line.len() > most_bytes) {
            break;
        }
        end += line.len();
        count += 1;
    }
    (&lines[..end], count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A portion is whole lines, within both bounds where one line is.
    #[test]
    fn a_portion_is_whole_lines() {
        for (lines, in_all, bounds, portion) in [
            ("a\nbc\nd\n", 3, (5, 9), ("a\nbc\n", 2)),
            ("a\nbc\nd\n", 3, (100, 1), ("a\n", 1)),
            ("a\nbc\nd\n", 3, (100, 9), ("a\nbc\nd\n", 3)),
            ("longer than that\nb\n", 2, (5, 9), ("longer than that\n", 1)),
        ] {
            let (first, count) = first(lines.as_bytes(), in_all, bounds);
            assert_eq!((first, count), (portion.0.as_bytes(), portion.1));
        }
    }
}
