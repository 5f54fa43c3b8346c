//! Wrong user codes: counted for each user in the store, and for all together in this process.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;

use super::entry::{Tries, read, write};
use super::{Handover, Place, Step, Way};
use crate::clock::after;
use crate::session::{StoreError, UserTag};

/// Wrong user codes of one user within [`WINDOW`], at all replicas together.
const MAX_WRONG_CODES: u32 = 10;
/// Wrong user codes of all users within [`WINDOW`], at one replica: many users, or stolen sessions, do not help a guesser.
const MAX_WRONG_CODES_OF_ALL: u32 = 1_000;
const WINDOW: Duration = super::DEVICE_CODE_LIVES;
/// Others of the same user are faster at most this often.
const MAX_RACES: usize = 32;

/// Wrong user codes at this replica.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    since: Timestamp,
    count: u32,
}

impl Handover {
    /// Takes one of the user's tries, before the code is looked at: who asks a hundred times at once has no more of them.
    /// `false`: none is left.
    pub(crate) async fn take_try(&self, user: UserTag) -> Result<bool, StoreError> {
        let now = self.clock.now();
        if self.wrong_of_all(now, 0) >= MAX_WRONG_CODES_OF_ALL {
            tracing::warn!("wrong user codes of many users: no more are taken for a while");
            return Ok(false);
        }
        self.count_tries(user, |tries| (tries.count < MAX_WRONG_CODES).then_some(tries.count + 1)).await
    }

    /// The code was right: gives the try back.
    pub(crate) async fn give_try_back(&self, user: UserTag) -> Result<(), StoreError> {
        self.count_tries(user, |tries| Some(tries.count.saturating_sub(1))).await.map(|_counted| ())
    }

    /// The code was wrong.
    pub(crate) fn note_wrong_code(&self) {
        self.wrong_of_all(self.clock.now(), 1);
        self.note(Way::Device, Step::WrongCode);
    }

    async fn count_tries(
        &self,
        user: UserTag,
        next: impl Fn(&Tries) -> Option<u32> + Send,
    ) -> Result<bool, StoreError> {
        let (place, now) = (Place::tries(user), self.clock.now());
        for _ in 0..MAX_RACES {
            let record = self.store.peek(&place).await?;
            let known = record.as_deref().and_then(|record| read::<Tries>(record).ok());
            let began = |tries: &Tries| Timestamp::from_millisecond(tries.since).unwrap_or(Timestamp::MIN);
            let known = known.filter(|tries| now < after(began(tries), WINDOW));
            let known = known.unwrap_or(Tries { since: now.as_millisecond(), count: 0 });
            let Some(count) = next(&known) else { return Ok(false) };
            let until = after(began(&known), WINDOW);
            let counted = write(&Tries { count, ..known });
            let done = match &record {
                None => self.store.put(&place, &counted, until).await?,
                Some(record) => self.store.exchange(&place, record, &counted, until).await?,
            };
            if done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wrong_of_all(&self, now: Timestamp, more: u32) -> u32 {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= after(wrong.since, WINDOW) {
            *wrong = Wrong { since: now, count: 0 };
        }
        wrong.count = wrong.count.saturating_add(more);
        wrong.count
    }
}
