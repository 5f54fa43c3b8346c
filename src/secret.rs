//! Secrets as types that cannot be printed, and the form of our own credentials.
//!
//! A credential of ours is random and opaque: 43 base62 characters (256 bits) and six more that hold a CRC-32 of all
//! before them, so that a secret scanner can know it and a mistyped one is refused without a look at the store. A
//! proxy token begins with `entrada_`; a browser cookie has no prefix. The store knows only the [`Digest`]. The bearer of
//! a mounted dashboard is longer: see `session::bearer`.

mod hidden;
mod random;

use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

pub use self::hidden::{HIDDEN, without_tokens};
pub use self::random::{random_base62, random_guid, random_of, random_share};

/// What every proxy token begins with.
pub const TOKEN_PREFIX: &str = "entrada_";
/// What every code begins with that stands for a token until it is fetched.
pub const CODE_PREFIX: &str = "code_";
/// What every bearer of a mounted dashboard begins with.
pub const BEARER_PREFIX: &str = "entradam_";

const RANDOM_CHARS: usize = 43;
/// Of a bearer as of every credential.
pub const SEED_CHARS: usize = RANDOM_CHARS;
const CHECKSUM_CHARS: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SecretString);

        impl $name {
            /// Takes the secret in; it is wiped from memory when dropped.
            #[must_use]
            pub fn new(value: impl Into<String>) -> Self {
                Self(SecretString::from(value.into()))
            }

            /// The secret itself. Each call of this is a place to review.
            #[must_use]
            pub fn expose(&self) -> &str {
                self.0.expose_secret()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret! {
    /// What Entra gave a session; it mints AKS tokens.
    RefreshToken
}
secret! {
    /// A user's access token for the AKS API server.
    AksToken
}
secret! {
    /// The pod's projected service-account token: our own identity towards Entra.
    ClientAssertion
}
secret! {
    /// An access token of our own for the session store.
    StoreToken
}
secret! {
    /// The code of an authorization response; it can be redeemed once.
    AuthorizationCode
}
secret! {
    /// An ID token as it came, before and after its verification.
    RawIdToken
}
secret! {
    /// A credential of ours in the clear: a proxy token or the value of a session cookie.
    CredentialSecret
}
secret! {
    /// A random value of one sign-in attempt: its state, its nonce or its PKCE verifier.
    AttemptSecret
}

/// The SHA-256 digest under which a credential is stored and found.
///
/// A plain digest is enough: what it digests has 256 bits of randomness, so there is nothing to guess.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Hash for Digest {
    /// Any 64 bits of a digest are as good as all of it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

impl Digest {
    /// The digest of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// From its bytes, as a store gives them back.
    #[must_use]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes, to be stored and looked up.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// What a credential is found by and what it opens with, both taken from its secret.
///
/// A store finds the credential's record by the digest. The seed never leaves this process: a store that seals what it
/// keeps derives from it the key that opens a session's grant.
#[derive(Clone)]
pub struct CredentialKey {
    digest: Digest,
    seed: Zeroizing<[u8; RANDOM_CHARS]>,
}

impl CredentialKey {
    /// The digest to look up.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The random characters of the credential (256 bits). Each call of this is a place to review.
    #[must_use]
    pub fn expose_seed(&self) -> &[u8] {
        self.seed.as_slice()
    }

    /// Of a bearer, whose seed is derived and not drawn: `seed` has [`SEED_CHARS`] characters.
    #[must_use]
    pub fn of_seed(prefix: &str, seed: &str) -> Self {
        Self::new(&Zeroizing::new(format!("{prefix}{seed}")), seed)
    }

    /// `random` are the [`RANDOM_CHARS`] characters of `secret` that were drawn at random.
    fn new(secret: &str, random: &str) -> Self {
        let mut seed = Zeroizing::new([0; RANDOM_CHARS]);
        seed.copy_from_slice(random.as_bytes());
        Self { digest: Digest::of(secret), seed }
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(…)")
    }
}

impl CredentialSecret {
    /// A new proxy token.
    #[must_use]
    pub fn new_token() -> Self {
        Self::with_prefix(TOKEN_PREFIX)
    }

    /// A new value for a session cookie.
    #[must_use]
    pub fn new_cookie() -> Self {
        Self::with_prefix("")
    }

    /// A new code that stands for a token until it is fetched.
    #[must_use]
    pub fn new_code() -> Self {
        Self::with_prefix(CODE_PREFIX)
    }

    /// What it is found by and opens with.
    #[must_use]
    pub fn key(&self) -> CredentialKey {
        let secret = self.expose();
        let random = secret.len() - CHECKSUM_CHARS - RANDOM_CHARS;
        CredentialKey::new(secret, &secret[random..random + RANDOM_CHARS])
    }

    fn with_prefix(prefix: &str) -> Self {
        let mut text = format!("{prefix}{}", random_base62(RANDOM_CHARS));
        text.extend(checksum(&text).map(char::from));
        Self::new(text)
    }
}

/// The key of a presented proxy token; `None` when it cannot be one of ours.
#[must_use]
pub fn token_key(presented: &str) -> Option<CredentialKey> {
    presented.starts_with(TOKEN_PREFIX).then(|| well_formed(presented, TOKEN_PREFIX.len()))?
}

/// The key of a presented session cookie; `None` when it cannot be one of ours.
#[must_use]
pub fn cookie_key(presented: &str) -> Option<CredentialKey> {
    well_formed(presented, 0)
}

/// The key of a presented code; `None` when it cannot be one of ours.
#[must_use]
pub fn code_key(presented: &str) -> Option<CredentialKey> {
    presented.starts_with(CODE_PREFIX).then(|| well_formed(presented, CODE_PREFIX.len()))?
}

fn well_formed(presented: &str, prefix: usize) -> Option<CredentialKey> {
    let body = presented.len().checked_sub(CHECKSUM_CHARS)?;
    if body != prefix + RANDOM_CHARS || !presented.as_bytes()[prefix..].iter().all(u8::is_ascii_alphanumeric)
    {
        return None;
    }
    (checksum(&presented[..body]) == presented.as_bytes()[body..])
        .then(|| CredentialKey::new(presented, &presented[prefix..body]))
}

/// 32 bytes as a number of [`SEED_CHARS`] base62 digits.
#[must_use]
pub fn base62(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut number = Zeroizing::new(*bytes);
    let mut digits = Zeroizing::new([b'0'; RANDOM_CHARS]);
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u16;
        for byte in number.iter_mut() {
            let value = rest << 8 | u16::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = BASE62[usize::from(rest)];
    }
    Zeroizing::new(digits.iter().map(|digit| char::from(*digit)).collect())
}

/// The number that base62 digits give; `None` where one of them is none, or they are too many.
#[must_use]
pub fn number(digits: &str) -> Option<i64> {
    digits.bytes().try_fold(0_i64, |number, byte| {
        let digit = BASE62.iter().position(|known| *known == byte)?;
        number.checked_mul(62)?.checked_add(i64::try_from(digit).ok()?)
    })
}

/// Six base62 digits of the CRC-32 of a text.
#[must_use]
pub fn checksum(text: &str) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each one is another, of the form that RFC 9562 gives version 4, also where the pool was filled again.
    #[test]
    fn guids_are_of_version_4_and_differ() {
        let guids: std::collections::HashSet<_> = (0..100).map(|_| random_guid()).collect();
        assert_eq!(guids.len(), 100);
        for guid in guids {
            let parts: Vec<_> = guid.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{guid}");
            assert!(parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())), "{guid}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{guid}");
        }
    }

    /// A new token has the contract's form and is known again by its digest.
    #[test]
    fn a_token_is_prefixed_random_and_checksummed() {
        let token = CredentialSecret::new_token();
        let random = token.expose().strip_prefix("entrada_").unwrap();
        assert_eq!(random.len(), 49);
        assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let presented = token_key(token.expose()).unwrap();
        assert_eq!(presented.digest(), token.key().digest());
        assert_eq!(presented.expose_seed(), &random.as_bytes()[..43]);
        assert_ne!(CredentialSecret::new_token().expose(), token.expose());
    }

    /// A cookie's value is not taken for a token, nor the other way round.
    #[test]
    fn kinds_are_not_confused() {
        assert!(token_key(CredentialSecret::new_cookie().expose()).is_none());
        assert!(cookie_key(CredentialSecret::new_token().expose()).is_none());
        let code = CredentialSecret::new_code();
        assert!(token_key(code.expose()).is_none() && cookie_key(code.expose()).is_none());
        assert_eq!(code_key(code.expose()).unwrap().digest(), code.key().digest());
        assert!(code_key(CredentialSecret::new_token().expose()).is_none());
    }

    /// No secret shows itself in debug output.
    #[test]
    fn debug_output_hides_the_secret() {
        let token = CredentialSecret::new_token();
        assert_eq!(format!("{token:?}"), "CredentialSecret(…)");
        assert_eq!(format!("{:?}", token.key()), "CredentialKey(…)");
        assert_eq!(format!("{:?}", token.key().digest()), "Digest(…)");
    }

    proptest! {
        /// One changed character is noticed by the checksum or the form.
        #[test]
        fn a_mistyped_token_is_refused(at in 0_usize..57, letter in "[ -~]") {
            let token = CredentialSecret::new_token().expose().to_owned();
            let mut typed = token.clone();
            typed.replace_range(at..=at, &letter);
            prop_assume!(typed != token);
            prop_assert!(token_key(&typed).is_none());
        }

        /// Nothing that a stranger sends makes the parser panic.
        #[test]
        fn any_text_is_parsed_without_panic(text in ".{0,80}") {
            prop_assert!(token_key(&text).is_none());
            let _ = cookie_key(&text);
        }
    }
}
