//! What the broker holds for one session: the present token, and the call to Entra that fetches the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::watch;

use super::BrokerError;
use crate::clock::{after, until};
use crate::secret::random_share;
use crate::session::{AksGrant, CredentialId};

/// Where Entra names no time, renewal begins with a fifth of the lifetime left.
const AHEAD_SHARE: u32 = 5;
/// It begins at the latest this long before the end, also where Entra names a later time.
const AHEAD_AT_LEAST: Duration = Duration::from_secs(300);

/// An AKS token, ready to be sent.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) authorization: HeaderValue,
    pub(super) minted_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) renew_at: Timestamp,
}

/// A renewal that is under way.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    /// `None` until it is done.
    pub(super) result: watch::Receiver<Option<Result<Arc<Token>, BrokerError>>>,
    /// Its token was asked for then or later.
    pub(super) not_before: Timestamp,
    /// The credential that it was started for.
    pub(super) by: CredentialId,
}

#[derive(Debug)]
pub(super) struct Slot {
    ends_at: Timestamp,
    current: ArcSwapOption<Token>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) renewal: Option<Renewal>,
    forced_at: Option<Timestamp>,
    ahead_at: Option<Timestamp>,
    stored_at: Option<Timestamp>,
}

impl Token {
    /// `None` for a token that cannot stand in a header.
    pub(super) fn new(minted: &AksGrant) -> Option<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", minted.token.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            authorization,
            minted_at: minted.minted_at,
            expires_at: minted.expires_at,
            renew_at: renew_at(minted),
        })
    }
}

/// When renewal begins: as Entra says, else with a fifth of the lifetime left; spread over a tenth of that time, so
/// that tokens of one morning do not all come due at once; at the latest with five minutes left.
fn renew_at(minted: &AksGrant) -> Timestamp {
    let lifetime = until(minted.minted_at, minted.expires_at);
    let planned = minted.refresh_in.unwrap_or(lifetime - lifetime / AHEAD_SHARE).min(lifetime);
    let spread = planned / 10;
    let earlier = spread.mul_f64(random_share());
    let latest = lifetime.saturating_sub(AHEAD_AT_LEAST);
    after(minted.minted_at, (planned - earlier).min(latest))
}

impl Slot {
    /// Without a token yet. `ends_at`: when its session ends by itself.
    pub(super) fn new(ends_at: Timestamp) -> Self {
        Self { ends_at, current: ArcSwapOption::empty(), state: Mutex::default() }
    }

    pub(super) fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    pub(super) fn current(&self) -> Option<Arc<Token>> {
        self.current.load_full()
    }

    pub(super) fn publish(&self, token: &Arc<Token>) {
        self.current.store(Some(token.clone()));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allows one forced renewal every `every`, after a 401 or by `/refresh` alike; the error says how long to wait.
    pub(super) fn force(&self, now: Timestamp, every: Duration) -> Result<(), Duration> {
        take(&mut self.state().forced_at, now, every)
    }

    /// Allows one attempt ahead of need every `every`.
    pub(super) fn try_ahead(&self, now: Timestamp, every: Duration) -> bool {
        take(&mut self.state().ahead_at, now, every).is_ok()
    }

    /// Allows one look at the store every `every` while a failure is remembered.
    pub(super) fn try_stored(&self, now: Timestamp, every: Duration) -> bool {
        take(&mut self.state().stored_at, now, every).is_ok()
    }

    /// A forced renewal was not made: it may be tried again in so long.
    pub(super) fn forced_elsewhere(&self, now: Timestamp, left: Duration, every: Duration) {
        let at = now.checked_add(left).and_then(|at| at.checked_sub(every)).unwrap_or(now);
        self.state().forced_at = Some(at);
    }
}

fn take(last: &mut Option<Timestamp>, now: Timestamp, every: Duration) -> Result<(), Duration> {
    let left = last.map_or(Duration::ZERO, |last| until(now, after(last, every)));
    if !left.is_zero() {
        return Err(left);
    }
    *last = Some(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let at = |lifetime, refresh_in| renew_at(&minted(lifetime, refresh_in)).as_second();
            assert!((2_592..=2_880).contains(&at(3_600, None)));
            assert!((38_880..=43_200).contains(&at(86_400, Some(43_200))));
            assert!(at(600, None) <= 300);
            assert_eq!(at(5, None), 0);
        }
    }

    /// A token that could break out of its header is none.
    #[test]
    fn a_token_with_line_breaks_is_refused() {
        let mut evil = minted(3_600, None);
        evil.token = AksToken::new("a\r\nImpersonate-User: admin");
        assert!(Token::new(&evil).is_none());
    }
}
