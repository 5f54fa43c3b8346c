//! Random identifiers and opaque strings.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// A GUID of version 4.
pub(crate) fn guid() -> String {
    let mut hex: String = bytes(16).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, "8");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Base64url of `length` random bytes.
pub(crate) fn token(length: usize) -> String {
    URL_SAFE_NO_PAD.encode(bytes(length))
}

/// A number from `low` to `high`, both included.
pub(crate) fn between(low: u64, high: u64) -> u64 {
    let raw = bytes(8).iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    low + raw % (high - low + 1)
}

/// An opaque code or refresh token: a version, a dot, and `length` random bytes.
pub(crate) fn grant(length: usize) -> String {
    format!("1.A{}", token(length))
}

/// Whether this could be a code or refresh token at all; the real one checks that before the client's credentials.
pub(crate) fn looks_like_grant(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() >= 64 && (text.starts_with("0.A") || text.starts_with("1.A")) && text.bytes().all(allowed)
}
