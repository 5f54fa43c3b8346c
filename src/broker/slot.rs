//! What the broker holds for one session: the present token, and the call to Entra that fetches the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::renewal::Need;
use super::{BrokerError, LAST_USE};
use crate::clock::{Clock, until};
use crate::secret::random_share;
use crate::session::{AksGrant, CredentialId};

/// Where Entra names no time, renewal begins with a fifth of the lifetime left.
const AHEAD_SHARE: u32 = 5;
/// It begins at the latest this long before the end, also where Entra names a later time.
const AHEAD_AT_LEAST: Duration = Duration::from_secs(300);

/// An AKS token, ready to be sent.
///
/// Its age is judged in two ways, and the one that makes it older counts: by the time that has passed since it came here,
/// because the wall clock may be set back; and by the wall clock, because no time passes for a machine that is asleep.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) authorization: HeaderValue,
    /// Of two tokens of a session, the one that was granted later is the newer one.
    pub(super) granted_at: Timestamp,
    minted_at: Timestamp,
    /// When it came here, and how old it was then.
    came_at: Instant,
    age_then: Duration,
    lifetime: Duration,
    /// The age at which renewal begins.
    renewed_at_age: Duration,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It will still be good when it arrives at the API server.
    Good,
    /// That, too, but its renewal should begin.
    Due,
    /// Nothing.
    Over,
}

/// A renewal that is under way.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    /// `None` until it is done.
    pub(super) result: watch::Receiver<Option<Result<Arc<Token>, BrokerError>>>,
    /// What its token will meet.
    pub(super) need: Need,
    /// The credential that it was started for.
    pub(super) by: CredentialId,
}

#[derive(Debug)]
pub(super) struct Slot {
    ends_at: Timestamp,
    current: ArcSwapOption<Token>,
    /// Its session has ended: it gives no token any more, whoever still holds it.
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) renewal: Option<Renewal>,
    /// From when on the next one is allowed.
    force: Option<Instant>,
    ahead: Option<Instant>,
    stored: Option<Instant>,
}

impl Token {
    /// `None` for a token that cannot stand in a header.
    pub(super) fn new(minted: &AksGrant, granted_at: Timestamp, clock: &Clock) -> Option<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", minted.token.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            authorization,
            granted_at,
            minted_at: minted.minted_at,
            came_at: clock.instant(),
            age_then: until(minted.minted_at, clock.now()),
            lifetime: until(minted.minted_at, minted.expires_at),
            renewed_at_age: renewed_at_age(minted),
        })
    }

    /// What it is good for now.
    pub(super) fn use_now(&self, clock: &Clock) -> Use {
        let age = self.age(clock);
        if self.lifetime.saturating_sub(age) <= LAST_USE {
            Use::Over
        } else if age >= self.renewed_at_age {
            Use::Due
        } else {
            Use::Good
        }
    }

    /// Whether it will still be good when it arrives at the API server.
    pub(super) fn is_usable(&self, clock: &Clock) -> bool {
        self.use_now(clock) != Use::Over
    }

    pub(super) fn age(&self, clock: &Clock) -> Duration {
        let passed = self.age_then.saturating_add(clock.instant().duration_since(self.came_at));
        passed.max(until(self.minted_at, clock.now()))
    }
}

/// The age at which renewal begins: as Entra says, else with a fifth of the lifetime left; spread over a tenth of that time, so
/// that tokens of one morning do not all come due at once; at the latest with five minutes left.
fn renewed_at_age(minted: &AksGrant) -> Duration {
    let lifetime = until(minted.minted_at, minted.expires_at);
    let planned = minted.refresh_in.unwrap_or(lifetime - lifetime / AHEAD_SHARE).min(lifetime);
    let spread = planned / 10;
    let earlier = spread.mul_f64(random_share());
    let latest = lifetime.saturating_sub(AHEAD_AT_LEAST);
    (planned - earlier).min(latest)
}

impl Slot {
    /// Without a token yet. `ends_at`: when its session ends by itself.
    pub(super) fn new(ends_at: Timestamp) -> Self {
        Self {
            ends_at,
            current: ArcSwapOption::empty(),
            is_over: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(super) fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    pub(super) fn current(&self) -> Option<Arc<Token>> {
        self.current.load_full().filter(|_| !self.is_over.load(Ordering::Acquire))
    }

    /// The store says that its session has ended, or that this credential opens it no more: nothing is given unasked.
    pub(super) fn drop_token(&self) {
        self.current.store(None);
    }

    /// Its session has ended.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.current.store(None);
    }

    pub(super) fn publish(&self, token: &Arc<Token>) {
        self.current.store(Some(token.clone()));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allows one forced renewal every `every`, after a 401 or by `/refresh` alike; the error says how long to wait.
    pub(super) fn force(&self, now: Instant, every: Duration) -> Result<(), Duration> {
        take(&mut self.state().force, now, every)
    }

    /// Allows one attempt ahead of need every `every`.
    pub(super) fn try_ahead(&self, now: Instant, every: Duration) -> bool {
        take(&mut self.state().ahead, now, every).is_ok()
    }

    /// Allows one look at the store every `every` while a failure is remembered.
    pub(super) fn try_stored(&self, now: Instant, every: Duration) -> bool {
        take(&mut self.state().stored, now, every).is_ok()
    }

    /// A forced renewal was not made: it may be tried again in so long.
    pub(super) fn forced_elsewhere(&self, now: Instant, left: Duration) {
        self.state().force = Some(now + left);
    }
}

fn take(next: &mut Option<Instant>, now: Instant, every: Duration) -> Result<(), Duration> {
    let left = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
    if !left.is_zero() {
        return Err(left);
    }
    *next = Some(now + every);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::after;
    use crate::secret::AksToken;

    fn minted(lifetime: u64, refresh_in: Option<u64>) -> AksGrant {
        let minted_at = Timestamp::UNIX_EPOCH;
        AksGrant {
            token: AksToken::new("t"),
            minted_at,
            expires_at: after(minted_at, Duration::from_secs(lifetime)),
            refresh_in: refresh_in.map(Duration::from_secs),
        }
    }

    /// Renewal begins when Entra says, else with a fifth left, spread over a tenth, at the latest five minutes before.
    #[test]
    fn renewal_is_planned_ahead_of_need() {
        for _ in 0..50 {
            let at = |lifetime, refresh_in| renewed_at_age(&minted(lifetime, refresh_in)).as_secs();
            assert!((2_592..=2_880).contains(&at(3_600, None)));
            assert!((38_880..=43_200).contains(&at(86_400, Some(43_200))));
            assert!(at(600, None) <= 300);
            assert_eq!(at(5, None), 0);
        }
    }

    /// A token ages while the clock is set back, and also while only the clock goes on. One from the future is as good as new,
    /// and no better.
    #[test]
    fn a_token_ages_by_whichever_clock_makes_it_older() {
        let (clock, hour) = (Clock::movable(), Duration::from_secs(3_600));
        let at = |minted_at| {
            let aks = AksGrant { minted_at, expires_at: after(minted_at, hour), ..minted(0, None) };
            Token::new(&aks, minted_at, &clock).unwrap()
        };
        let token = at(clock.now());
        clock.set_back(2 * hour);
        let from_the_future = at(after(clock.now(), 2 * hour));
        for token in [&token, &from_the_future] {
            assert_eq!(token.use_now(&clock), Use::Good);
        }
        clock.advance(Duration::from_secs(3_000));
        for token in [&token, &from_the_future] {
            assert_eq!(token.use_now(&clock), Use::Due);
        }
        clock.advance(Duration::from_secs(595));
        assert!(!token.is_usable(&clock) && !from_the_future.is_usable(&clock));
        // No time passes for a machine that is asleep, but the clock goes on.
        let slept = Token { came_at: clock.instant(), age_then: Duration::ZERO, ..at(clock.now() - hour) };
        assert!(!slept.is_usable(&clock));
    }

    /// Nobody gets a token of a session that has ended: neither who still holds its slot, nor from a renewal that comes late.
    #[test]
    fn a_slot_whose_session_has_ended_gives_nothing() {
        let clock = Clock::movable();
        let aks = AksGrant {
            minted_at: clock.now(),
            expires_at: after(clock.now(), LAST_USE * 2),
            ..minted(0, None)
        };
        let (slot, token) =
            (Slot::new(clock.now()), Arc::new(Token::new(&aks, clock.now(), &clock).unwrap()));
        slot.publish(&token);
        assert!(slot.current().is_some());
        slot.end();
        assert!(slot.current().is_none());
        slot.publish(&token);
        assert!(slot.current().is_none());
    }

    /// A token that could break out of its header is none.
    #[test]
    fn a_token_with_line_breaks_is_refused() {
        let mut evil = minted(3_600, None);
        evil.token = AksToken::new("a\r\nImpersonate-User: admin");
        assert!(Token::new(&evil, evil.minted_at, &Clock::movable()).is_none());
    }
}
