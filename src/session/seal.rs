//! How records are sealed, so that a store's content is useless to whoever reads it, and forged content to whoever
//! writes it. `docs/security.md` describes the same byte for byte; `tests` holds its test vectors.
//!
//! - A credential's seed gives, by HKDF-SHA256, a *record key* (AES-256-GCM) and an X25519 key pair. The store knows the
//!   public half. The credential's record is authenticated under the record key: only who holds the credential could have
//!   made it.
//! - A session has a random *data key* (AES-256-GCM), under which its identity and its grant are sealed. The data key is
//!   sealed to the public half of each credential of the session with HPKE (RFC 9180), so that a token can be moved to a
//!   new session without being presented.
//! - Everything is bound to its place by associated data: which user, which session, which credential, until when.

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use aws_lc_rs::rand;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as HPKE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::CredentialKey;

const KEY_BYTES: usize = 32;
/// Of the ephemeral X25519 key that precedes what is sealed to a public key.
const ENCAPSULATED_BYTES: usize = 32;
const SALT: &[u8] = b"entrada/1 credential";
const USER_CODE_SALT: &str = "entrada/1 user code";
/// Makes each guess at a code that a person types cost milliseconds of a processor (see `docs/security.md`).
const USER_CODE_ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).expect("it is not zero");

/// What was read does not open: it was changed, moved, cut off, or sealed with another key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a sealed record does not open: it was changed, moved or made with another key")]
pub(super) struct Broken;

/// Associated data: a purpose and the fields that the sealed bytes belong to. Each is preceded by its length (four bytes,
/// big-endian), so that no two lists of fields give the same bytes.
#[derive(Clone, Debug)]
pub(super) struct Context(Vec<u8>);

/// The key under which a session's identity and grant are sealed.
pub(super) struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

/// What a credential's seed gives.
pub(super) struct CredentialKeys {
    record: Zeroizing<[u8; KEY_BYTES]>,
    private: Zeroizing<[u8; KEY_BYTES]>,
}

/// What a code gives that a person types. It is short: 34 bits.
pub(super) struct UserCodeKeys {
    place: [u8; KEY_BYTES],
    record: Zeroizing<[u8; KEY_BYTES]>,
}

/// The public half of a credential's key pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PublicKey([u8; KEY_BYTES]);

impl Context {
    /// For one purpose.
    pub(super) fn of(purpose: &str) -> Self {
        Self(Vec::new()).and("entrada/1").and(purpose)
    }

    /// With one more field.
    pub(super) fn and(mut self, field: impl AsRef<[u8]>) -> Self {
        let field = field.as_ref();
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }
}

impl CredentialKeys {
    /// Derives them.
    pub(super) fn of(key: &CredentialKey) -> Self {
        let secret = Salt::new(HKDF_SHA256, SALT).extract(key.expose_seed());
        Self { record: expand(&secret, b"record key"), private: expand(&secret, b"x25519 private key") }
    }

    /// The public half of the key pair.
    pub(super) fn public(&self) -> PublicKey {
        let private = PrivateKey::from_private_key(&X25519, self.private.as_slice());
        let public = private.ok().and_then(|private| private.compute_public_key().ok());
        let public = public.expect("any 32 bytes are a private key of X25519");
        let mut bytes = [0; KEY_BYTES];
        bytes.copy_from_slice(public.as_ref());
        PublicKey(bytes)
    }

    /// Seals what belongs to the credential's own record.
    pub(super) fn seal(&self, context: &Context, plain: &[u8]) -> Vec<u8> {
        seal(&self.record, context, plain)
    }

    /// Opens it.
    ///
    /// # Errors
    /// When the record was not made by the holder of this credential, or for another place.
    pub(super) fn open(&self, context: &Context, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        open(&self.record, context, sealed)
    }

    /// Opens a data key that was sealed to this credential.
    ///
    /// # Errors
    /// When it was sealed to another one, or for another place.
    pub(super) fn open_data_key(&self, context: &Context, sealed: &[u8]) -> Result<DataKey, Broken> {
        let (encapsulated, sealed) = sealed.split_at_checked(ENCAPSULATED_BYTES).ok_or(Broken)?;
        let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
        let private = HpkePrivateKey::from(self.private.to_vec());
        let plain = HPKE.open(&encapsulated, b"", &context.0, sealed, &private).map_err(|_| Broken)?;
        let plain = Zeroizing::new(plain);
        let bytes = <[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_| Broken)?;
        Ok(DataKey(Zeroizing::new(bytes)))
    }
}

impl UserCodeKeys {
    /// Derives them. `origin`: the public URL's, so that no table of all codes serves for two installations.
    pub(super) fn of(code: &str, origin: &str) -> Self {
        let salt = format!("{USER_CODE_SALT}\n{origin}");
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        let (rounds, code) = (USER_CODE_ROUNDS, code.as_bytes());
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt.as_bytes(), code, seed.as_mut_slice());
        let secret = Salt::new(HKDF_SHA256, salt.as_bytes()).extract(seed.as_slice());
        Self { place: *expand(&secret, b"place"), record: expand(&secret, b"record key") }
    }

    /// What the record is found by.
    pub(super) fn place(&self) -> &[u8] {
        &self.place
    }

    /// Seals the record.
    pub(super) fn seal(&self, context: &Context, plain: &[u8]) -> Vec<u8> {
        seal(&self.record, context, plain)
    }

    /// Opens it.
    ///
    /// # Errors
    /// When it was not made with this code, or for another place.
    pub(super) fn open(&self, context: &Context, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        open(&self.record, context, sealed)
    }
}

impl DataKey {
    /// A new random one.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, as nothing safe can be done then.
    pub(super) fn random() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut_slice()).expect("the operating system gives randomness");
        Self(bytes)
    }

    /// Seals under this key.
    pub(super) fn seal(&self, context: &Context, plain: &[u8]) -> Vec<u8> {
        seal(&self.0, context, plain)
    }

    /// Opens what was sealed under this key.
    ///
    /// # Errors
    /// When it was not, or for another place.
    pub(super) fn open(&self, context: &Context, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        open(&self.0, context, sealed)
    }

    /// Seals this key to a credential.
    ///
    /// # Errors
    /// When `to` is no usable public key, which only a forged record holds.
    pub(super) fn seal_to(&self, to: &PublicKey, context: &Context) -> Result<Vec<u8>, Broken> {
        let public = HpkePublicKey(to.0.to_vec());
        let sealed = HPKE.seal(b"", &context.0, self.0.as_slice(), &public);
        let (EncapsulatedSecret(mut bytes), sealed) = sealed.map_err(|_| Broken)?;
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }
}

impl PublicKey {
    /// From its 32 bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its 32 bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

/// How many bytes HKDF shall give.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

pub(super) fn expand(secret: &Prk, purpose: &'static [u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let info = [purpose];
    let filled = secret.expand(&info, Length).and_then(|okm| okm.fill(bytes.as_mut_slice()));
    filled.expect("HKDF gives up to 8,160 bytes");
    bytes
}

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has AES-256's length"))
}

/// AES-256-GCM with a random nonce in front and the tag behind.
fn seal(key: &[u8; KEY_BYTES], context: &Context, plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).expect("the operating system gives randomness");
    let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let aad = Aad::from(&context.0);
    let tag = cipher(key).seal_in_place_separate_tag(nonce, aad, &mut sealed[NONCE_LEN..]);
    sealed.extend_from_slice(tag.expect("records are far below AES-GCM's limit of 64 GiB").as_ref());
    sealed
}

fn open(key: &[u8; KEY_BYTES], context: &Context, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(Broken)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Broken)?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let plain = cipher(key).open_in_place(nonce, Aad::from(&context.0), bytes.as_mut_slice());
    let length = plain.map_err(|_| Broken)?.len();
    bytes.truncate(length);
    Ok(bytes)
}
