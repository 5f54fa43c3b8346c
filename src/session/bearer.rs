//! What a mounted dashboard calls the API with, derived anew for each request from the cookie of the mount's host.
//!
//! `entradam_`, 43 base62 characters (the *seed*), six that say until when it can be presented, 43 that prove that, and
//! six of a checksum. The seed is the same for as long as the cookie lives: in the session's records stands a credential
//! with the seed's digest and public key, which any replica finds and opens. The proof is an HMAC over the expiry, under
//! a key that stands in that record, sealed to the seed. So whoever has but a bearer cannot give it a later expiry, and
//! nobody can turn it into the cookie: both the seed and that key come from the cookie by HKDF.
//!
//! The bearer of a moment is the same on every replica, and changes four times an hour: dashboards keep clients by token.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::seal::expand;
use crate::secret::{BEARER_PREFIX, CredentialKey, CredentialSecret, SEED_CHARS, base62, checksum, number};

/// Of each window's beginning, so much later the window's bearer expires: between 45 and 60 minutes after it was given.
const WINDOWS: i64 = 4;
const WINDOW_SECONDS: i64 = 900;

const SALT: &[u8] = b"entrada/1 mount bearer";
const PROOF_BYTES: usize = 32;
const EXPIRY_CHARS: usize = 6;
const PROOF_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;

/// What a mount's cookie gives.
pub(crate) struct BearerKeys {
    seed: Zeroizing<String>,
    proof: ProofKey,
}

/// Proves until when a bearer can be presented.
#[derive(Clone)]
pub(crate) struct ProofKey(Zeroizing<[u8; PROOF_BYTES]>);

/// Until when a presented bearer says that it can be, and its proof. It is none before [`ProofKey::proves`] says so.
#[derive(Clone)]
pub(crate) struct Claim {
    expires_at: i64,
    proof: String,
}

impl BearerKeys {
    /// Derives them from the key of a mount's cookie.
    #[must_use]
    pub(crate) fn of(cookie: &CredentialKey) -> Self {
        let secret = Salt::new(HKDF_SHA256, SALT).extract(cookie.expose_seed());
        let (seed, proof) = (expand(&secret, b"seed"), expand(&secret, b"proof key"));
        Self { seed: base62(&seed), proof: ProofKey(proof) }
    }

    /// What the bearer's record is found by and opens with.
    #[must_use]
    pub(crate) fn key(&self) -> CredentialKey {
        CredentialKey::of_seed(BEARER_PREFIX, &self.seed)
    }

    /// What proves a bearer's expiry.
    #[must_use]
    pub(crate) fn proof(&self) -> &ProofKey {
        &self.proof
    }

    /// The bearer that is given to a dashboard now.
    #[must_use]
    pub(crate) fn bearer(&self, now: Timestamp) -> CredentialSecret {
        let expires_at = (now.as_second().div_euclid(WINDOW_SECONDS) + WINDOWS) * WINDOW_SECONDS;
        let mut text = Zeroizing::new(format!(
            "{BEARER_PREFIX}{}{}{}",
            *self.seed,
            digits(expires_at),
            *self.proof.proof(expires_at)
        ));
        let checksum = checksum(&text);
        text.extend(checksum.map(char::from));
        CredentialSecret::new(text.as_str())
    }
}

impl ProofKey {
    /// From its bytes, out of the bearer's record.
    #[must_use]
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// Its bytes, for the bearer's record.
    #[must_use]
    pub(super) fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Whether the claim was made with this key, and `now` is before its expiry.
    #[must_use]
    pub(crate) fn proves(&self, claim: &Claim, now: Timestamp) -> bool {
        let proof = self.proof(claim.expires_at);
        let is_genuine = verify_slices_are_equal(proof.as_bytes(), claim.proof.as_bytes()).is_ok();
        is_genuine && now.as_second() < claim.expires_at
    }

    fn proof(&self, expires_at: i64) -> Zeroizing<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        let tag = hmac::sign(&key, format!("entrada/1 bearer expires\n{expires_at}").as_bytes());
        let mut bytes = Zeroizing::new([0; PROOF_BYTES]);
        bytes.copy_from_slice(tag.as_ref());
        base62(&bytes)
    }
}

/// The key of a presented bearer, and what it claims; `None` when it cannot be one of ours.
#[must_use]
pub(crate) fn presented(text: &str) -> Option<(CredentialKey, Claim)> {
    let body = text.strip_prefix(BEARER_PREFIX)?;
    let expected = SEED_CHARS + EXPIRY_CHARS + PROOF_CHARS + CHECKSUM_CHARS;
    if body.len() != expected || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (told, sum) = text.split_at(text.len() - CHECKSUM_CHARS);
    if checksum(told) != sum.as_bytes() {
        return None;
    }
    let (seed, rest) = body.split_at(SEED_CHARS);
    let (expiry, rest) = rest.split_at(EXPIRY_CHARS);
    let claim = Claim { expires_at: number(expiry)?, proof: rest[..PROOF_CHARS].to_owned() };
    Some((CredentialKey::of_seed(BEARER_PREFIX, seed), claim))
}

/// A time in base62.
fn digits(seconds: i64) -> String {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&seconds.max(0).to_be_bytes());
    let whole = base62(&bytes);
    whole[whole.len() - EXPIRY_CHARS..].to_owned()
}

impl fmt::Debug for BearerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerKeys(…)")
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey(…)")
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::{cookie_key, token_key};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn keys() -> BearerKeys {
        BearerKeys::of(&CredentialSecret::new_cookie().key())
    }

    /// A bearer leads to its record, is good for 45 to 60 minutes, and is the same for a quarter of an hour.
    #[test]
    fn a_bearer_is_good_for_less_than_an_hour() {
        let (keys, now) = (keys(), at(1_800_000_000));
        let bearer = keys.bearer(now);
        let (key, claim) = presented(bearer.expose()).unwrap();
        assert_eq!(key.digest(), keys.key().digest());
        assert!(keys.proof().proves(&claim, now));
        assert!(keys.proof().proves(&claim, at(1_800_000_000 + 3_599)));
        assert!(!keys.proof().proves(&claim, at(1_800_000_000 + 3_600)));
        assert_eq!(keys.bearer(at(1_800_000_899)).expose(), bearer.expose());
        assert_ne!(keys.bearer(at(1_800_000_900)).expose(), bearer.expose());
        assert!(!self::keys().proof().proves(&claim, now), "another cookie's");
    }

    /// A later expiry needs the proof key, which whoever has but a bearer does not have.
    #[test]
    fn a_bearer_cannot_be_prolonged() {
        let (keys, now) = (keys(), at(1_800_000_000));
        let mut later = keys.bearer(now).expose().to_owned();
        let at_expiry = BEARER_PREFIX.len() + SEED_CHARS;
        later.replace_range(at_expiry..at_expiry + EXPIRY_CHARS, &digits(1_900_000_000));
        let body = later.len() - CHECKSUM_CHARS;
        let sum = checksum(&later[..body]);
        later.truncate(body);
        later.extend(sum.map(char::from));
        let (_, claim) = presented(&later).unwrap();
        assert!(!keys.proof().proves(&claim, now));
    }

    /// It is neither a token nor a cookie, and neither of them is one.
    #[test]
    fn kinds_are_not_confused() {
        let bearer = keys().bearer(at(1_800_000_000));
        assert!(token_key(bearer.expose()).is_none() && cookie_key(bearer.expose()).is_none());
        let seed = &bearer.expose()[BEARER_PREFIX.len()..][..SEED_CHARS];
        let mut token = format!("entrada_{seed}");
        token.extend(checksum(&token).map(char::from));
        assert_ne!(
            token_key(&token).unwrap().digest(),
            presented(bearer.expose()).unwrap().0.digest(),
            "its seed as a token is not known"
        );
        assert!(presented(CredentialSecret::new_token().expose()).is_none());
        assert_eq!(format!("{:?} {:?}", keys(), keys().proof()), "BearerKeys(…) ProofKey(…)");
    }

    proptest! {
        /// One changed character is noticed, and nothing that a stranger sends makes the parser panic.
        #[test]
        fn a_mistyped_bearer_is_refused(place in 0_usize..107, letter in "[ -~]", text in ".{0,120}") {
            let keys = keys();
            let bearer = keys.bearer(at(1_800_000_000)).expose().to_owned();
            prop_assert_eq!(bearer.len(), 107);
            let mut typed = bearer.clone();
            typed.replace_range(place..=place, &letter);
            prop_assume!(typed != bearer);
            prop_assert!(presented(&typed).is_none());
            let _ = presented(&format!("{BEARER_PREFIX}{text}"));
        }
    }
}
