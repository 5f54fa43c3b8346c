//! The device code's way: a computer asks, a person who typed its user code answers, the computer fetches.

use std::net::IpAddr;
use std::sync::PoisonError;

use jiff::Timestamp;

use super::entry::{Polled, Request, read, write};
use super::place::hex;
use super::{
    Asked, DEVICE_CODE_LIVES, DeviceCodes, Handover, MAX_DEVICE_CODES, POLL_INTERVAL, Place, Poll, Step, Way,
    context,
};
use crate::clock::after;
use crate::secret::{CredentialKey, CredentialSecret, code_key, random_of};
use crate::session::StoreError;
use crate::session::seal::{Broken, CredentialKeys, DataKey, PublicKey, UserCodeKeys};

/// Of a user code: consonants, so that no word comes of it, and none that is taken for another letter or a digit.
const LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
/// 34 bits.
const USER_CODE_CHARS: usize = 8;
/// A user code is drawn again when somebody has it.
const MAX_DRAWS: usize = 4;
/// A computer whose clock or network is uneven has not asked too often.
const LENIENCE_MS: i64 = 500;
/// What HPKE makes of a data key.
const SEALED_KEY_BYTES: usize = 80;
const REFUSED: &[u8] = b"refused";

impl Handover {
    /// A computer that calls itself `name` asks from `from`. `None`: too many wait.
    pub(crate) async fn ask(&self, name: &str, from: IpAddr) -> Result<Option<DeviceCodes>, StoreError> {
        let now = self.clock.now();
        let until = after(now, DEVICE_CODE_LIVES);
        if !self.find_room(now, until) {
            return Ok(None);
        }
        let device_code = CredentialSecret::new_code();
        let (key, at) = (device_code.key(), now.as_millisecond());
        let device = hex(key.digest().as_bytes());
        let public_key = CredentialKeys::of(&key).public().as_bytes().to_vec();
        let until_ms = until.as_millisecond();
        let polled = Polled { at: i64::MIN, until: until_ms };
        self.store.put(&Place::polled(&device), &write(&polled), until).await?;
        let request = Request { name: name.to_owned(), from, at, until: until_ms, device, public_key };
        for _ in 0..MAX_DRAWS {
            let code = random_of(LETTERS, USER_CODE_CHARS);
            let keys = self.keys_of(&code).await?;
            let place = Place::asked(keys.place());
            let sealed = keys.seal(&context("device request", &place), &write(&request));
            if self.store.put(&place, &sealed, until).await? {
                self.note(Way::Device, Step::Asked);
                let (first, second) = code.split_at(USER_CODE_CHARS / 2);
                return Ok(Some(DeviceCodes { device_code, user_code: format!("{first}-{second}") }));
            }
        }
        Ok(None)
    }

    /// What the computer with this user code asked for. `None`: there is none, or it was answered.
    pub(crate) async fn asked(&self, user_code: &str) -> Result<Option<Asked>, StoreError> {
        let Some((keys, place)) = self.typed(user_code).await? else { return Ok(None) };
        let sealed = self.store.peek(&place).await?;
        Ok(sealed.and_then(|sealed| self.open_request(&keys, &place, &sealed)))
    }

    /// Takes the right to answer it. Of several who answer at once, one gets it.
    pub(crate) async fn claim(&self, user_code: &str) -> Result<Option<Asked>, StoreError> {
        let Some((keys, place)) = self.typed(user_code).await? else { return Ok(None) };
        let sealed = self.store.take(&place).await?;
        Ok(sealed.and_then(|sealed| self.open_request(&keys, &place, &sealed)))
    }

    /// Answers it: with a ticket, or with no.
    pub(crate) async fn answer(
        &self,
        asked: &Asked,
        ticket: Option<&CredentialSecret>,
    ) -> Result<(), StoreError> {
        let place = Place::answer(&asked.device);
        let answer = match ticket {
            None => REFUSED.to_vec(),
            Some(ticket) => seal_to(&asked.public_key, &place, ticket).map_err(|Broken| {
                tracing::error!("a device request in the store has no usable key: it was changed");
                StoreError
            })?,
        };
        self.store.put(&place, &answer, asked.until).await?;
        self.note(Way::Device, if ticket.is_some() { Step::Allowed } else { Step::Refused });
        Ok(())
    }

    /// The computer asks whether it was answered.
    pub(crate) async fn poll(&self, device_code: &str) -> Result<Poll, StoreError> {
        let Some(key) = code_key(device_code) else { return Ok(Poll::Expired) };
        let device = hex(key.digest().as_bytes());
        let (answer, polled) = (Place::answer(&device), Place::polled(&device));
        if let Some(answered) = self.store.take(&answer).await? {
            // It was answered: what stays ends by itself.
            let _gone = self.store.take(&polled).await;
            return Ok(if answered == REFUSED { Poll::Refused } else { open(&key, &answer, &answered) });
        }
        let Some(record) = self.store.peek(&polled).await? else { return Ok(Poll::Expired) };
        let Ok(last) = read::<Polled>(&record) else { return Ok(Poll::Expired) };
        let now = self.clock.now().as_millisecond();
        if now >= last.until {
            return Ok(Poll::Expired);
        }
        let until = Timestamp::from_millisecond(last.until).unwrap_or(Timestamp::MAX);
        let noted = write(&Polled { at: now, until: last.until });
        // Who loses against another poll at the same time asks too often.
        let first = self.store.exchange(&polled, &record, &noted, until).await?;
        let interval = i64::try_from(POLL_INTERVAL.as_millis()).unwrap_or(i64::MAX) - LENIENCE_MS;
        let is_due = now.saturating_sub(last.at) >= interval;
        Ok(if first && is_due { Poll::Pending } else { Poll::TooFast })
    }

    /// Where a typed code leads; `None` when it cannot be one.
    pub(super) async fn typed(&self, user_code: &str) -> Result<Option<(UserCodeKeys, Place)>, StoreError> {
        let Some(code) = plain(user_code) else { return Ok(None) };
        let keys = self.keys_of(&code).await?;
        let place = Place::asked(keys.place());
        Ok(Some((keys, place)))
    }

    /// Takes milliseconds of a processor, which must not hold up the requests of others.
    async fn keys_of(&self, code: &str) -> Result<UserCodeKeys, StoreError> {
        let (code, origin) = (code.to_owned(), self.origin.clone());
        let derived = tokio::task::spawn_blocking(move || UserCodeKeys::of(&code, &origin)).await;
        // Not begun any more, as the process stops.
        derived.map_err(|_stopping| StoreError)
    }

    fn open_request(&self, keys: &UserCodeKeys, place: &Place, sealed: &[u8]) -> Option<Asked> {
        let opened = keys.open(&context("device request", place), sealed);
        let Ok(request) = opened.and_then(|plain| read::<Request>(&plain)) else {
            tracing::error!("a device request in the store does not open: it was changed");
            return None;
        };
        let Request { name, from, at, until, device, public_key } = request;
        let time = |ms| Timestamp::from_millisecond(ms).ok();
        let (at, until) = (time(at)?, time(until)?);
        (self.clock.now() < until).then_some(Asked { name, from, at, until, device, public_key })
    }

    /// Whether one more may wait.
    fn find_room(&self, now: Timestamp, until: Timestamp) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.front().is_some_and(|until| *until <= now) {
            waiting.pop_front();
        }
        let has_room = waiting.len() < MAX_DEVICE_CODES;
        if has_room {
            waiting.push_back(until);
        }
        has_room
    }
}

/// A typed code's letters, without its dash and in capitals.
fn plain(typed: &str) -> Option<String> {
    let typed = typed.trim();
    let letters: String =
        typed.chars().filter(|c| !"- ".contains(*c)).collect::<String>().to_ascii_uppercase();
    let is_code = letters.len() == USER_CODE_CHARS && letters.bytes().all(|byte| LETTERS.contains(&byte));
    (is_code && typed.len() <= 2 * USER_CODE_CHARS).then_some(letters)
}

fn seal_to(public_key: &[u8], place: &Place, ticket: &CredentialSecret) -> Result<Vec<u8>, Broken> {
    let public_key = PublicKey::from_bytes(public_key).ok_or(Broken)?;
    let data_key = DataKey::random();
    let mut sealed = data_key.seal_to(&public_key, &context("device key", place))?;
    sealed.extend(data_key.seal(&context("device ticket", place), ticket.expose().as_bytes()));
    Ok(sealed)
}

fn open(key: &CredentialKey, place: &Place, answered: &[u8]) -> Poll {
    let open = || {
        let (sealed_key, sealed) = answered.split_at_checked(SEALED_KEY_BYTES).ok_or(Broken)?;
        let data_key = CredentialKeys::of(key).open_data_key(&context("device key", place), sealed_key)?;
        let ticket = data_key.open(&context("device ticket", place), sealed)?;
        let ticket = std::str::from_utf8(&ticket).map_err(|_| Broken)?;
        Ok(CredentialSecret::new(ticket))
    };
    open().map_or_else(
        |Broken| {
            tracing::error!("an answer to a device in the store does not open: it was changed");
            Poll::Expired
        },
        Poll::Ticket,
    )
}
