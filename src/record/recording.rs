//! What the audit log is told of an exchange, stage by stage.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use http::request::Parts;
use http::{HeaderMap, Uri};
use jiff::Timestamp;

use super::text::{of_credential, of_session};
use super::{Record, Refusal};
use crate::audit::{Act, Audit, Exchange, NotRecorded, Object, Outcome, Trail, User};
use crate::route::Facts;
use crate::session::Session;

/// Of an exchange that is recorded: what its events are made of.
#[derive(Debug)]
pub(super) struct Recording {
    received: Timestamp,
    sources: [IpAddr; 1],
    /// Of a page's request; a Kubernetes request's are read once, when it is received.
    page: Option<Box<HeaderMap>>,
    /// An act was told.
    has_told: AtomicBool,
    trail: OnceLock<Trail>,
    answer: OnceLock<(u16, Option<Refusal>)>,
}

impl Recording {
    /// Nothing where nothing is recorded.
    pub(super) fn begin(audit: &Audit, parts: &Parts, client: IpAddr, is_page: bool) -> Option<Box<Self>> {
        audit.is_on().then(|| {
            Box::new(Self {
                received: audit.now(),
                sources: [client],
                page: is_page.then(|| Box::new(parts.headers.clone())),
                has_told: AtomicBool::new(false),
                trail: OnceLock::new(),
                answer: OnceLock::new(),
            })
        })
    }

    pub(super) fn answered(&self, audit: &Audit, status: u16, refusal: Option<Refusal>) {
        let (status, refusal) = self.answer.get_or_init(|| (status, refusal));
        if let Some(trail) = self.trail.get() {
            audit.started(trail, &outcome(*status, refusal.as_ref()));
        }
    }

    /// The last byte has been sent, or the client has gone.
    pub(super) fn complete(&self, audit: &Audit) {
        let Some(trail) = self.trail.get() else { return };
        match self.answer.get() {
            Some((status, refusal)) => audit.complete(trail, &outcome(*status, refusal.as_ref())),
            None => {
                let (status, reason) = super::unanswered();
                audit.complete(trail, &Outcome { reason: Some(reason), ..Outcome::of(status) });
            }
        }
    }
}

impl Record {
    /// The user is known. Nothing may be done for the request before this is recorded.
    ///
    /// # Errors
    /// In strict mode, when it cannot be recorded.
    pub(crate) fn received(&self, parts: &Parts) -> Result<(), NotRecorded> {
        let Some(recording) = &self.recording else { return Ok(()) };
        let trail = self.sinks.audit.received(&self.exchange(recording, &parts.headers))?;
        // There is one, because an exchange is received once.
        let _noted_already = recording.trail.set(trail);
        Ok(())
    }

    /// Nobody knows whose request it is: its one event is its refusal.
    pub(crate) fn unidentified(&self, parts: &Parts) {
        let Some(recording) = &self.recording else { return };
        let trail = self.sinks.audit.unidentified(&self.exchange(recording, &parts.headers));
        let _noted_already = recording.trail.set(trail);
    }

    /// Whether what a page is about to give could be recorded.
    ///
    /// # Errors
    /// In strict mode, when it could not.
    pub(crate) fn can_tell(&self) -> Result<(), NotRecorded> {
        if self.recording.is_some() { self.sinks.audit.ready() } else { Ok(()) }
    }

    /// Somebody did something with a session or a token, on a page of ours.
    pub(crate) fn tell_act(&self, act: &Act<'_>, outcome: &Outcome<'_>) {
        let Some(recording) = &self.recording else { return };
        let Some(headers) = &recording.page else { return };
        recording.has_told.store(true, Ordering::Relaxed);
        self.sinks.audit.account(&self.exchange(recording, headers), act, outcome);
    }

    /// The same of an attempt that came to no answer, because its visitor left or its page panicked.
    pub(crate) fn tell_unanswered(&self, act: &Act<'_>) {
        let (status, reason) = super::unanswered();
        self.tell_act(act, &Outcome { reason: Some(reason), ..Outcome::of(status) });
    }

    /// Whether anything was told of what somebody did on this page.
    pub(crate) fn has_told(&self) -> bool {
        self.recording.as_ref().is_some_and(|recording| recording.has_told.load(Ordering::Relaxed))
    }

    fn exchange<'a>(&'a self, recording: &'a Recording, headers: &'a HeaderMap) -> Exchange<'a> {
        let user = self.user.get();
        Exchange {
            audit_id: self.audit_id.to_str().unwrap_or_default(),
            verb: self.facts.as_ref().map_or("", |facts| facts.verb),
            uri: Some(&self.uri),
            is_page: recording.page.is_some(),
            headers,
            user: user.map(|(credential, session)| User {
                session: of_session(session),
                credential: Some(&of_credential(credential).audit),
            }),
            object: self.facts.as_deref().and_then(object),
            source_ips: &recording.sources,
            received: recording.received,
        }
    }
}

/// Tells that something else than its user ended a session, for this reason.
pub(crate) fn session_ended(audit: &Audit, session: &Session, cause: &'static str, audit_id: &str) {
    if !audit.is_on() {
        return;
    }
    let exchange = Exchange {
        audit_id,
        verb: "",
        uri: None::<&Uri>,
        is_page: true,
        headers: &HeaderMap::new(),
        user: Some(User { session: of_session(session), credential: None }),
        object: None,
        source_ips: &[],
        received: audit.now(),
    };
    audit.account(&exchange, &Act::SessionEnded(session.id.as_str(), cause), &Outcome::of(200));
}

fn object(facts: &Facts) -> Option<Object<'_>> {
    (!facts.resource().is_empty()).then(|| Object {
        group: facts.group(),
        version: facts.version(),
        resource: facts.resource(),
        subresource: facts.subresource(),
        namespace: facts.namespace(),
        name: facts.name(),
    })
}

fn outcome(status: u16, refusal: Option<&Refusal>) -> Outcome<'_> {
    refusal.map_or(Outcome::of(status), |refusal| Outcome { status, ..refusal.outcome() })
}
