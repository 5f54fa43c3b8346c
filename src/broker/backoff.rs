//! What failed a moment ago and need not be tried again yet: per session, per user, or for the whole process, as far
//! as the fault reaches. Entra itself counts identical requests (15 in 5 minutes trip its loop detector).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::entra::{Class, EntraFault};
use crate::session::{Session, SessionId, UserKey};

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LATER_PAUSE: Duration = Duration::from_secs(60);
/// Entra's `Retry-After` is honoured up to this, and so is what another replica left in the store.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How long a failure is remembered after its pause, for the portal and the next sign-in.
const LAST_FAULT_IS_KNOWN_FOR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Demands of a policy, blocks, and refusals that could not end their session: they belong to one refresh token, and
    /// another session of the same user may have met the demand.
    sessions: DashMap<SessionId, Remembered>,
    users: DashMap<UserKey, Remembered>,
    process: ArcSwapOption<Remembered>,
}

#[derive(Clone, Debug)]
struct Remembered {
    fault: Arc<EntraFault>,
    /// By the wall clock, as it is compared with the beginnings of sessions, maybe at other replicas.
    at: Timestamp,
    until: Instant,
    count: u32,
}

impl Backoff {
    /// The failure that makes a call pointless right now.
    pub(super) fn active(&self, session: &Session, now: Instant) -> Option<Arc<EntraFault>> {
        self.all(session).into_iter().flatten().find(|held| now < held.until).map(|held| held.fault)
    }

    /// The last failure that no success followed, however long ago.
    pub(super) fn last(&self, session: &Session) -> Option<Arc<EntraFault>> {
        self.all(session).into_iter().flatten().next().map(|held| held.fault)
    }

    /// Whether the session's last failure was one that only its user, or a policy, can end.
    pub(super) fn waits_for_its_user(&self, session: &SessionId) -> bool {
        self.sessions.contains_key(session)
    }

    /// Remembers a failure as far as it reaches, and says for how long nobody need try again.
    pub(super) fn remember(&self, session: &Session, fault: &Arc<EntraFault>, clock: &Clock) -> Duration {
        let before = match fault.class {
            Class::Admin => self.process.load().as_ref().map(|held| held.count),
            Class::StepUp | Class::Blocked | Class::SignIn | Class::Revoked => {
                self.sessions.get(&session.id).map(|held| held.count)
            }
            _ => self.users.get(&session.user).map(|held| held.count),
        };
        let pause = pause(fault, before.unwrap_or(0));
        self.keep(session, fault, clock, pause, before.unwrap_or(0).saturating_add(1));
        pause
    }

    /// Remembers what failed at another replica, for as long as that one does.
    pub(super) fn remember_for(
        &self,
        session: &Session,
        fault: &Arc<EntraFault>,
        clock: &Clock,
        left: Duration,
    ) {
        // What is left is the store's word, which no seal covers.
        self.keep(session, fault, clock, left.min(LONGEST_PAUSE), 1);
    }

    fn keep(&self, session: &Session, fault: &Arc<EntraFault>, clock: &Clock, pause: Duration, count: u32) {
        // Where the clock was set back since the session began, the failure still came after that.
        let at = clock.now().max(session.created_at);
        let held = Remembered { fault: fault.clone(), at, until: clock.instant() + pause, count };
        match held.fault.class {
            Class::Admin => self.process.store(Some(Arc::new(held))),
            Class::StepUp | Class::Blocked | Class::SignIn | Class::Revoked => {
                self.sessions.insert(session.id.clone(), held);
            }
            _ => {
                self.users.insert(session.user.clone(), held);
            }
        }
    }

    /// After a new sign-in of the user.
    pub(super) fn forget(&self, user: &UserKey) {
        self.users.remove(user);
    }

    pub(super) fn forget_session(&self, session: &SessionId) {
        self.sessions.remove(session);
    }

    /// After a success: what stood in the way of the session, its user and the process is gone.
    pub(super) fn succeeded(&self, session: &Session) {
        self.sessions.remove(&session.id);
        self.users.remove(&session.user);
        if self.process.load().is_some() {
            self.process.store(None);
        }
    }

    /// Drops what is long over; the last fault is kept a while for the portal and the next sign-in.
    pub(super) fn sweep(&self, now: Instant) {
        let is_kept = |held: &Remembered| now < held.until + LAST_FAULT_IS_KNOWN_FOR;
        self.users.retain(|_, held| is_kept(held));
        self.sessions.retain(|_, held| is_kept(held));
        if self.process.load().as_deref().is_some_and(|held| !is_kept(held)) {
            self.process.store(None);
        }
    }

    fn all(&self, session: &Session) -> [Option<Remembered>; 3] {
        [
            self.sessions.get(&session.id).map(|held| held.clone()),
            // A session that began after the failure is a new sign-in, maybe at another replica: it is tried.
            self.users
                .get(&session.user)
                .filter(|held| held.at >= session.created_at)
                .map(|held| held.clone()),
            self.process.load().as_deref().cloned(),
        ]
    }
}

fn pause(fault: &EntraFault, before: u32) -> Duration {
    let own = if before == 0 { FIRST_PAUSE } else { LATER_PAUSE };
    fault.retry_after.map_or(own, |asked| asked.clamp(own, LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::session::conformance::new_session;

    fn fault(seconds: Option<u64>) -> EntraFault {
        EntraFault {
            class: Class::Transient,
            sentence: String::new(),
            code: None,
            error: String::new(),
            correlation_id: String::new(),
            trace_id: None,
            claims: None,
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// Who writes to the store cannot keep a user away from Entra for longer than Entra itself could.
    #[test]
    fn a_pause_from_the_store_is_bounded() {
        let (backoff, clock) = (Backoff::default(), Clock::movable());
        let session = new_session("alice", clock.now()).0.opener.session;
        backoff.remember_for(&session, &Arc::new(fault(None)), &clock, Duration::MAX);
        assert!(backoff.active(&session, clock.instant()).is_some());
        clock.advance(LONGEST_PAUSE);
        assert!(backoff.active(&session, clock.instant()).is_none());
    }

    /// A pause grows once, and Entra's own wish is honoured within bounds.
    #[test]
    fn pauses_back_off() {
        assert_eq!(pause(&fault(None), 0).as_secs(), 30);
        assert_eq!(pause(&fault(None), 1).as_secs(), 60);
        assert_eq!(pause(&fault(Some(120)), 0).as_secs(), 120);
        assert_eq!(pause(&fault(Some(86_400)), 0).as_secs(), 600);
        assert_eq!(pause(&fault(Some(1)), 0).as_secs(), 30);
    }
}
