//! What is sealed into a record. Times are milliseconds since 1970.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::session::seal::Broken;

/// A ticket that waits for a code, and for whom.
#[derive(Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) ticket: String,
    pub(super) challenge: String,
    pub(super) redirect_uri: String,
    pub(super) until: i64,
}

/// What a computer asked for.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) from: IpAddr,
    pub(super) at: i64,
    pub(super) until: i64,
    /// The device code's digest.
    pub(super) device: String,
    pub(super) public_key: Vec<u8>,
}

/// When a computer asked last, and until when it may.
#[derive(Serialize, Deserialize)]
pub(super) struct Polled {
    pub(super) at: i64,
    pub(super) until: i64,
}

/// Tries of one user since a moment.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tries {
    pub(super) since: i64,
    pub(super) count: u32,
}

pub(super) fn write(plain: &impl Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(plain).expect("text and numbers are JSON"))
}

pub(super) fn read<T: DeserializeOwned>(plain: &[u8]) -> Result<T, Broken> {
    serde_json::from_slice(plain).map_err(|_| Broken)
}

impl Drop for Left {
    fn drop(&mut self) {
        self.ticket.zeroize();
    }
}
