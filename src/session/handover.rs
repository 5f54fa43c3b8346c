//! Handing a token over to a person's computer: what waits between two requests of it, at whichever replica they arrive.
//!
//! Who is signed in says yes in a browser, and the computer fetches a token. What waits in between is a *ticket*: a proxy
//! token of the session, made when the person says yes, which lives for seconds and ends when the computer exchanges it for
//! a token of its own. So a session that ends in between ends the ticket, and one that nobody fetches ends by itself.
//!
//! - *Through the browser* (RFC 8252): a code goes to the computer's own browser. The ticket lies sealed under a key that
//!   only the code gives, and can be taken once.
//! - *By a device code* (RFC 8628): the computer has the device code, the person types the user code. A key pair is derived
//!   from the device code before it is forgotten here; the ticket is sealed to its public half.
//!
//! - *To the host of a mounted dashboard*: like the first, but the browser itself redeems the code there, with a verifier
//!   that lies in a cookie of that host.
//!
//! The store has digests and sealed bytes alone: see `docs/security.md`.

mod device;
mod entry;
mod place;
#[cfg(test)]
mod tests;
mod tries;

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use self::entry::{Left, read, write};
pub(crate) use self::place::Place;
use self::tries::Wrong;
use super::StoreError;
use super::seal::{Context, CredentialKeys};
use crate::clock::{Clock, after};
use crate::metrics::Metrics;
use crate::secret::{CredentialSecret, code_key};

/// How long a code from the browser can be redeemed: the computer waits for it.
pub(crate) const CODE_LIVES: Duration = Duration::from_secs(60);
/// How long a device code waits for its person, who may have to sign in first.
pub(crate) const DEVICE_CODE_LIVES: Duration = Duration::from_secs(300);
/// Between two questions of a waiting computer.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Device codes of one replica that wait: a flood costs each replica's part of the store so many small records.
pub(crate) const MAX_DEVICE_CODES: usize = 1_000;

/// Keeps small records for minutes, for all replicas. Every call may fail, which says nothing about what it asked for.
#[async_trait]
pub(crate) trait Handovers: fmt::Debug + Send + Sync {
    /// Puts a record where none is. `false`: one is there, and stays.
    async fn put(&self, place: &Place, record: &[u8], until: Timestamp) -> Result<bool, StoreError>;

    /// What lies there. It may still lie there for a while after its time.
    async fn peek(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces a record. `false`: it is not the expected one any more, and nothing was changed.
    async fn exchange(
        &self,
        place: &Place,
        expected: &[u8],
        record: &[u8],
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Takes what lies there away. Of several who take it at once, one gets it.
    async fn take(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError>;
}

/// The way by which a token is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the browser of the same computer.
    Loopback,
    /// By a code that is typed in on another device.
    Device,
    /// To the host of a mounted dashboard, in the same browser.
    Mount,
}

/// A step of a hand-over, as metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A device code was given out.
    Asked,
    /// Its user said yes.
    Allowed,
    /// Its user said no.
    Refused,
    /// The computer has its token.
    Fetched,
    /// A code was presented with the wrong verifier or address, and ended by it.
    Burned,
    /// A wrong user code was typed.
    WrongCode,
}

/// What a code was presented for.
#[derive(Debug)]
pub(crate) enum Redeemed {
    /// It fits.
    Ticket(CredentialSecret),
    /// Somebody else's verifier or address. The code is gone, and the ticket shall be.
    Burned(CredentialSecret),
    /// No such code, or not any more.
    Unknown,
}

/// What a computer asked for, for the person who typed its code.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// What it calls itself.
    pub(crate) name: String,
    /// From where it asked.
    pub(crate) from: IpAddr,
    /// When.
    pub(crate) at: Timestamp,
    /// Until when it can be answered.
    pub(crate) until: Timestamp,
    device: String,
    public_key: Vec<u8>,
}

/// What a computer is given that asks.
#[derive(Debug)]
pub(crate) struct DeviceCodes {
    /// For the computer alone.
    pub(crate) device_code: CredentialSecret,
    /// For its person to type: `BCDF-GHJK`.
    pub(crate) user_code: String,
}

/// What a waiting computer is told.
#[derive(Debug)]
pub(crate) enum Poll {
    /// Nobody has answered yet.
    Pending,
    /// The same, and it asks too often.
    TooFast,
    /// No such code, or not any more.
    Expired,
    /// Its person said no.
    Refused,
    /// Its person said yes. Told once.
    Ticket(CredentialSecret),
}

/// Hands tickets over.
#[derive(Debug)]
pub(crate) struct Handover {
    store: Arc<dyn Handovers>,
    /// The public URL's.
    origin: String,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// When the device codes end that were given out here.
    waiting: Mutex<VecDeque<Timestamp>>,
    wrong: Mutex<Wrong>,
}

impl Handover {
    /// What waits lies in `store`. `origin`: the public URL's.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn Handovers>, origin: &str, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let (waiting, wrong) = (Mutex::default(), Mutex::default());
        Self { store, origin: origin.to_owned(), clock, metrics, waiting, wrong }
    }

    /// Leaves a ticket for the computer that has `challenge`'s verifier and waits at `redirect_uri`; or for the browser that
    /// has it, on the host of the mount whose origin that is. The code for it.
    pub(crate) async fn leave(
        &self,
        way: Way,
        ticket: &CredentialSecret,
        challenge: &str,
        redirect_uri: &str,
    ) -> Result<CredentialSecret, StoreError> {
        let (code, until) = (CredentialSecret::new_code(), after(self.clock.now(), CODE_LIVES));
        let key = code.key();
        let left = Left {
            ticket: ticket.expose().to_owned(),
            challenge: challenge.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            until: until.as_millisecond(),
        };
        let place = Place::code(key.digest());
        let sealed = CredentialKeys::of(&key).seal(&context("handover code", &place), &write(&left));
        self.store.put(&place, &sealed, until).await?;
        self.note(way, Step::Allowed);
        Ok(code)
    }

    /// Redeems a code. Whatever comes of it, the code cannot be redeemed again.
    pub(crate) async fn redeem(
        &self,
        way: Way,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Redeemed, StoreError> {
        let Some(key) = code_key(code) else { return Ok(Redeemed::Unknown) };
        let place = Place::code(key.digest());
        let Some(sealed) = self.store.take(&place).await? else { return Ok(Redeemed::Unknown) };
        let opened = CredentialKeys::of(&key).open(&context("handover code", &place), &sealed);
        let Ok(mut left) = opened.and_then(|plain| read::<Left>(&plain)) else {
            tracing::error!("a hand-over in the store does not open: it was changed");
            return Ok(Redeemed::Unknown);
        };
        if self.clock.now().as_millisecond() >= left.until {
            return Ok(Redeemed::Unknown);
        }
        let ticket = CredentialSecret::new(std::mem::take(&mut left.ticket));
        // RFC 7636 section 4.6.
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let fits = verify_slices_are_equal(challenge.as_bytes(), left.challenge.as_bytes()).is_ok();
        if fits && redirect_uri == left.redirect_uri {
            return Ok(Redeemed::Ticket(ticket));
        }
        self.note(way, Step::Burned);
        Ok(Redeemed::Burned(ticket))
    }

    /// Counts a step.
    pub(crate) fn note(&self, way: Way, step: Step) {
        let way = match way {
            Way::Loopback => "loopback",
            Way::Device => "device",
            Way::Mount => "mount",
        };
        let step = match step {
            Step::Asked => "asked",
            Step::Allowed => "allowed",
            Step::Refused => "refused",
            Step::Fetched => "fetched",
            Step::Burned => "burned",
            Step::WrongCode => "wrong_code",
        };
        self.metrics.handovers.with_label_values(&[way, step]).inc();
    }
}

/// Binds sealed bytes to where they lie.
fn context(purpose: &str, place: &Place) -> Context {
    Context::of(purpose).and(place.as_str())
}
