//! The audit log: who did what, as `audit.k8s.io/v1` Events at level Metadata, one JSON object in a line.
//!
//! A request has the same stages here as in the API server's own audit log, and the same Audit-ID, so that the two can be
//! joined. What people do with their sign-in (sessions, tokens) is told in events of the same shape, about resources of
//! the API group `entrada.io`.
//!
//! Recording never waits: an event is put into a bounded queue, and one thread writes it to the sink. What that cannot
//! write is tried again until it can. Meanwhile, when the queue is full, events are dropped and counted; in strict mode,
//! requests are refused instead, and what an accepted request still has to say is never dropped.

mod event;
mod exchange;
mod file;
mod flood;
mod policy;
mod uri;
mod user;
mod webhook;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use thiserror::Error;

use self::event::EventText;
pub(crate) use self::exchange::{Act, Exchange, Object, Outcome, User};
use self::flood::{Asker, Floods};
pub(crate) use self::user::{CredentialText, SessionText};
use crate::clock::{Clock, pause};
use crate::config::{AuditConfig, AuditPolicy, AuditSink, Stages};
use crate::json::with_line;
use crate::metrics::Metrics;
use crate::outbox::{Counters, Outbox, Room, outbox};

/// For exchanges to end whose connections were closed.
const ENDING: Duration = Duration::from_secs(1);
/// Between two looks at whether all exchanges have ended.
const ENDING_NAP: Duration = Duration::from_millis(10);
/// The reason of a request that was refused because its user's rate limit is used up.
pub(crate) const RATE_LIMITED: &str = "rate_limited";
/// Nobody got an answer: its client went away first. nginx's number for it.
pub(crate) const CLIENT_GONE: u16 = 499;
/// About the length of an event, where it is asked whether one would be accepted.
const TYPICAL_EVENT_BYTES: usize = 1024;

/// The entrance: everything that is recorded passes here. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    policy: AuditPolicy,
    strict: bool,
    outbox: Outbox,
    /// The sink's last attempt failed.
    failing: Arc<AtomicBool>,
    clock: Clock,
    floods: Floods,
    telling: Telling,
}

/// The request cannot be recorded, and must not be served.
#[derive(Clone, Copy, Debug, Error)]
#[error("the audit log cannot record the request")]
pub(crate) struct NotRecorded;

/// Held by whoever may have more to tell: a close waits for a moment until all of them are gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telling(Arc<()>);

/// What an exchange's later events need, made once when it is received. Nothing where the policy records nothing.
#[derive(Debug, Default)]
pub(crate) struct Trail(Option<Recorded>);

#[derive(Debug)]
struct Recorded {
    text: EventText,
    omit: Stages,
    /// Who was accepted with it; nothing where nobody was.
    asker: Option<Asker>,
    /// The stage ResponseStarted is told, or never is.
    started: AtomicBool,
}

impl Audit {
    /// Opens the sink and starts the thread that writes to it.
    ///
    /// # Errors
    /// When the file cannot be opened, the webhook's CA file cannot be read, or the thread cannot be started.
    pub(crate) fn start(config: &AuditConfig, clock: &Clock, metrics: &Metrics) -> anyhow::Result<Self> {
        let sink: Box<dyn writer::Sink> = match &config.sink {
            AuditSink::Stdout => Box::new(writer::Stdout),
            AuditSink::File(file) => Box::new(file::FileSink::open(file.clone(), clock.clone())?),
            AuditSink::Webhook(webhook) => Box::new(webhook::WebhookSink::new(webhook.clone())?),
        };
        Self::start_with(sink, config, clock, metrics)
    }

    fn start_with(
        sink: Box<dyn writer::Sink>,
        config: &AuditConfig,
        clock: &Clock,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let counters = Counters {
            written: metrics.audit.events.with_label_values(&["written"]),
            dropped: metrics.audit.events.with_label_values(&["dropped"]),
            queued: metrics.audit.queue_bytes.clone(),
        };
        let (outbox, inbox) = outbox(config.queue_bytes, sink.gathering(), counters);
        let failing = Arc::new(AtomicBool::new(false));
        let writer = writer::Writer {
            inbox,
            sink,
            failing: failing.clone(),
            failures: metrics.audit.sink_failures.clone(),
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .context("the audit log's thread")?;
        Ok(Self(Some(Arc::new(Recorder {
            policy: config.policy.clone(),
            strict: config.strict,
            outbox,
            failing,
            clock: clock.clone(),
            floods: Floods::default(),
            telling: Telling::default(),
        }))))
    }

    /// Whether anything is recorded at all: where not, nobody need gather what an event says.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// To be held as long as exchanges are told of; nothing where nothing is recorded.
    #[must_use]
    pub(crate) fn telling(&self) -> Option<Telling> {
        self.0.as_ref().map(|recorder| recorder.telling.clone())
    }

    /// The user is known, and nothing else is done yet. What this returns is for the exchange's later stages.
    ///
    /// # Errors
    /// In strict mode, when the event cannot be recorded.
    pub(crate) fn received(&self, exchange: &Exchange<'_>) -> Result<Trail, NotRecorded> {
        let Some(recorder) = &self.0 else { return Ok(Trail::default()) };
        let Some(rule) = policy::rule(&recorder.policy, exchange) else { return Ok(Trail::default()) };
        let text = EventText::of(exchange);
        let asker = exchange.user.as_ref().map(|user| Asker::of(user, exchange.received));
        let is_flood = asker.is_some_and(|asker| recorder.floods.include(asker));
        let room = if is_flood { Room::Half } else { Room::Whole };
        if rule.omit.contains(Stages::RECEIVED) {
            recorder.ready(TYPICAL_EVENT_BYTES, room)?;
        } else {
            with_line(|end| {
                text.end_received(end);
                let line = text.line("RequestReceived", end);
                recorder.ready(line.iter().map(|piece| piece.len()).sum(), room)?;
                recorder.record(&line, if recorder.strict { Room::Beyond } else { room });
                Ok(())
            })?;
        }
        Ok(recorder.trail(text, rule.omit, asker, exchange.is_long_running()))
    }

    /// The answer's head is there. Recorded of long-running requests only, as the API server does.
    pub(crate) fn started(&self, trail: &Trail, outcome: &Outcome<'_>) {
        let (Some(recorder), Some(own)) = (&self.0, &trail.0) else { return };
        if !own.started.swap(true, Ordering::Relaxed) && !own.omit.contains(Stages::STARTED) {
            recorder.stage(&own.text, "ResponseStarted", outcome, recorder.room_of(own, outcome));
        }
    }

    /// The answer's last byte is sent, the tunnel has ended, or the client is gone.
    pub(crate) fn complete(&self, trail: &Trail, outcome: &Outcome<'_>) {
        // A long-running request that was refused has started, too.
        self.started(trail, outcome);
        let (Some(recorder), Some(own)) = (&self.0, &trail.0) else { return };
        if let Some(asker) = own.asker.filter(|_| outcome.is_over_rate()) {
            recorder.floods.note(asker);
        }
        if !own.omit.contains(Stages::COMPLETE) {
            recorder.stage(&own.text, "ResponseComplete", outcome, recorder.room_of(own, outcome));
        }
    }

    /// The exchange will be refused, because nobody knows whose it is. It has one event, at its end; strangers'
    /// events have half of the queue, so that they cannot have everybody else refused in strict mode.
    pub(crate) fn unidentified(&self, exchange: &Exchange<'_>) -> Trail {
        let Some(recorder) = &self.0 else { return Trail::default() };
        let Some(rule) = policy::rule(&recorder.policy, exchange) else { return Trail::default() };
        recorder.trail(EventText::of(exchange), rule.omit, None, false)
    }

    /// Whether what a page is about to do could be recorded. It must be asked before a session or token is changed.
    ///
    /// # Errors
    /// In strict mode, when it could not.
    pub(crate) fn ready(&self) -> Result<(), NotRecorded> {
        self.0.as_ref().map_or(Ok(()), |recorder| recorder.ready(TYPICAL_EVENT_BYTES, Room::Whole))
    }

    /// Somebody did something with a session or a token. `exchange` says who and from where; what is known of its object is
    /// replaced by that of the act.
    pub(crate) fn account(&self, exchange: &Exchange<'_>, act: &Act<'_>, outcome: &Outcome<'_>) {
        if self.is_on() {
            let exchange = Exchange { verb: act.verb(), object: Some(act.object()), ..*exchange };
            self.tell(&exchange, &outcome.caused_by(act.cause()));
        }
    }

    fn tell(&self, exchange: &Exchange<'_>, outcome: &Outcome<'_>) {
        let Some(recorder) = &self.0 else { return };
        let Some(rule) = policy::rule(&recorder.policy, exchange) else { return };
        if !rule.omit.contains(Stages::COMPLETE) {
            let room = match (&exchange.user, outcome.status) {
                (_, ..400) => recorder.room_of_accepted(),
                // Nobody answered, or the store did not: it may have been done all the same.
                (Some(_), CLIENT_GONE..) => Room::Whole,
                // What is refused costs nothing, neither a stranger's sign-in nor what a user asks for over and over.
                _ => Room::Half,
            };
            recorder.stage(&EventText::of(exchange), "ResponseComplete", outcome, room);
        }
    }

    /// The present, by which events are stamped.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        self.0.as_ref().map_or(Timestamp::UNIX_EPOCH, |recorder| recorder.clock.now())
    }

    /// Records nothing more, and waits until all is written, at most for `patience`. What is lost is counted and logged.
    pub(crate) async fn close(&self, patience: Duration) {
        let Some(recorder) = &self.0 else { return };
        // A connection that was closed a moment ago may still have requests that are about to end.
        let ends = Instant::now() + ENDING.min(patience / 2);
        while Arc::strong_count(&recorder.telling.0) > 1 && Instant::now() < ends {
            pause(ENDING_NAP).await;
        }
        self.close_at_once(patience).await;
    }

    /// The same, without a moment for what is about to end.
    pub(crate) async fn close_at_once(&self, patience: Duration) {
        let Some(recorder) = self.0.clone() else { return };
        let closed = tokio::task::spawn_blocking(move || recorder.outbox.close(patience)).await;
        match closed {
            Ok(0) => {}
            Ok(lost) => tracing::error!(lost, "audit events were lost: the sink did not take them in time"),
            Err(error) => tracing::error!(%error, "the audit log could not be closed"),
        }
    }
}

impl Recorder {
    fn trail(&self, text: EventText, omit: Stages, asker: Option<Asker>, is_long_running: bool) -> Trail {
        Trail(Some(Recorded { text, omit, asker, started: AtomicBool::new(!is_long_running) }))
    }

    fn ready(&self, bytes: usize, room: Room) -> Result<(), NotRecorded> {
        if self.strict && (self.failing.load(Ordering::Relaxed) || !self.outbox.has_room(bytes, room)) {
            return Err(NotRecorded);
        }
        Ok(())
    }

    /// For what is still to be told of an exchange.
    fn room_of(&self, own: &Recorded, outcome: &Outcome<'_>) -> Room {
        if own.asker.is_none() || outcome.is_over_rate() { Room::Half } else { self.room_of_accepted() }
    }

    fn room_of_accepted(&self) -> Room {
        if self.strict { Room::Beyond } else { Room::Whole }
    }

    fn stage(&self, text: &EventText, stage: &str, outcome: &Outcome<'_>, room: Room) {
        let now = self.clock.now();
        with_line(|end| {
            text.end_stage(end, outcome, now);
            self.record(&text.line(stage, end), room);
        });
    }

    fn record(&self, line: &[&[u8]], room: Room) {
        // What is not accepted is counted by the queue.
        let _accepted = self.outbox.push_within(line, room);
    }
}

#[cfg(test)]
mod tests;
