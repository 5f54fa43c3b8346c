//! Time as a value that is passed in, so that tests can move it: what the wall clock shows, by which expiries are judged
//! that others must agree with, and a reading that is never set back, by which lengths of time are measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// A time that passed less than this ago.
const JUST_NOW: Duration = Duration::from_secs(60);
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// The time that every expiry is judged by. Cloning gives another handle to the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    shift: Option<Arc<Shift>>,
    /// In a simulation: what the clock showed when it began. From then on it goes with tokio's paused time.
    #[cfg(test)]
    simulated: Option<(Timestamp, Instant)>,
}

#[derive(Debug, Default)]
struct Shift {
    /// Of what the clock shows.
    millis: AtomicI64,
    /// Of the time that has passed: what was set back has not come back.
    passed_millis: AtomicU64,
    moved: Notify,
}

impl Clock {
    /// The system's time.
    #[must_use]
    pub(crate) fn system() -> Self {
        Self::default()
    }

    /// The system's time plus an offset that [`Clock::advance`] moves: for tests.
    #[must_use]
    pub fn movable() -> Self {
        Self {
            shift: Some(Arc::default()),
            #[cfg(test)]
            simulated: None,
        }
    }

    /// A clock that goes with tokio's own time, which a simulation pauses.
    #[cfg(test)]
    pub(crate) fn simulated() -> Self {
        let began = (Timestamp::from_second(1_800_000_000).unwrap(), Instant::now());
        Self { shift: None, simulated: Some(began) }
    }

    /// The present.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's time is read")]
    pub fn now(&self) -> Timestamp {
        #[cfg(test)]
        if let Some((epoch, began)) = &self.simulated {
            return after(*epoch, began.elapsed());
        }
        let system = Timestamp::now();
        match &self.shift {
            None => system,
            Some(shift) => system + SignedDuration::from_millis(shift.millis.load(Ordering::Acquire)),
        }
    }

    /// The present for lengths of time: how long ago something was, or until when to wait. Unlike [`Clock::now`] it never
    /// goes back, and it means nothing to another process.
    pub(crate) fn instant(&self) -> Instant {
        let shift = self.shift.as_ref().map_or(0, |shift| shift.passed_millis.load(Ordering::Acquire));
        Instant::now() + Duration::from_millis(shift)
    }

    /// Moves a movable clock forward and wakes all sleepers whose time has now come. The system's stays.
    pub fn advance(&self, by: Duration) {
        if let Some(shift) = &self.shift {
            shift.millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::AcqRel);
            let passed = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            shift.passed_millis.fetch_add(passed, Ordering::AcqRel);
            shift.moved.notify_waiters();
        }
    }

    /// Sets a movable clock back, as an administrator or a time server does with a clock that is ahead.
    pub fn set_back(&self, by: Duration) {
        if let Some(shift) = &self.shift {
            shift.millis.fetch_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::AcqRel);
            shift.moved.notify_waiters();
        }
    }

    /// Waits until the clock shows `deadline` or later.
    pub(crate) async fn sleep_until(&self, deadline: Timestamp) {
        loop {
            let moved = self.shift.as_ref().map(|shift| shift.moved.notified());
            let left = until(self.now(), deadline);
            if left.is_zero() {
                return;
            }
            // In short steps, because the timer does not notice when the system's time is set or its machine resumed.
            nap(left.min(LONGEST_NAP), moved).await;
        }
    }

    /// Waits until so much time has passed, also where the clock is set meanwhile: between two rounds of something.
    pub(crate) async fn pause(&self, time: Duration) {
        let began = self.instant();
        loop {
            let moved = self.shift.as_ref().map(|shift| shift.moved.notified());
            let left = time.saturating_sub(self.instant().duration_since(began));
            if left.is_zero() {
                return;
            }
            nap(left, moved).await;
        }
    }
}

async fn nap(time: Duration, moved: Option<Notified<'_>>) {
    let nap = tokio::time::sleep(time);
    match moved {
        None => nap.await,
        Some(moved) => tokio::select! { () = nap => {}, () = moved => {} },
    }
}

/// Waits for so long, whatever any clock shows: between two tries at something outside this process.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// `from + by`, capped at the last representable time instead of failing.
#[must_use]
pub(crate) fn after(from: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// How long it is from `now` until `then`; zero when it has passed.
#[must_use]
pub(crate) fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A time to come, in the words of a page or a warning: `in 6 days`, `in 40 minutes`.
#[must_use]
pub(crate) fn in_words(left: Duration) -> String {
    format!("in {}", length_in_words(left))
}

/// A time that has passed, in the same words: `2 hours ago`.
#[must_use]
pub(crate) fn ago_in_words(passed: Duration) -> String {
    if passed < JUST_NOW { "just now".to_owned() } else { format!("{} ago", length_in_words(passed)) }
}

/// A length of time: `7 days`.
#[must_use]
pub(crate) fn length_in_words(length: Duration) -> String {
    let seconds = length.as_secs();
    let (length, unit) = match seconds {
        172_800.. => (86_400, "day"),
        7_200.. => (3_600, "hour"),
        120.. => (60, "minute"),
        _ => (1, "second"),
    };
    // To the nearest: what was asked to last 30 days is not said to end in 29 a moment later.
    let count = (seconds + length / 2) / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sleeper on a movable clock wakes when the clock is moved past its deadline, and not before.
    #[tokio::test]
    async fn a_moved_clock_wakes_its_sleepers() {
        let clock = Clock::movable();
        let deadline = after(clock.now(), Duration::from_secs(3_600));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(deadline).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1_800));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1_801));
        sleeper.await.unwrap();
    }

    /// A clock that is set back delays who waits for a moment, but not who waits for a time to pass.
    #[tokio::test]
    async fn a_pause_does_not_wait_for_a_clock_that_was_set_back() {
        let (clock, hour) = (Clock::movable(), Duration::from_secs(3_600));
        let began = clock.instant();
        let deadline = after(clock.now(), hour);
        let mut pause = std::pin::pin!(clock.pause(hour));
        let mut sleep = std::pin::pin!(clock.sleep_until(deadline));
        assert!(futures_util::poll!(pause.as_mut()).is_pending());
        clock.set_back(2 * hour);
        assert!(futures_util::poll!(pause.as_mut()).is_pending());
        clock.advance(hour);
        assert!(futures_util::poll!(sleep.as_mut()).is_pending());
        pause.await;
        assert!(clock.instant().duration_since(began) < hour + Duration::from_secs(60));
        clock.advance(2 * hour);
        sleep.await;
    }

    /// Lengths of time are said in one unit, the nearest count of it.
    #[test]
    fn lengths_of_time_read_naturally() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(words(1), "in 1 second");
        assert_eq!(words(119), "in 119 seconds");
        assert_eq!(words(2_400), "in 40 minutes");
        assert_eq!(words(7 * 86_400 - 1), "in 7 days");
        assert_eq!(words(6 * 86_400 + 40_000), "in 6 days");
        assert_eq!(ago_in_words(Duration::from_secs(59)), "just now");
        assert_eq!(ago_in_words(Duration::from_secs(7_200)), "2 hours ago");
    }
}
