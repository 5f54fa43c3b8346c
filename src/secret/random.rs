//! Randomness of the operating system, as text.

use std::cell::RefCell;

use super::BASE62;

/// `len` characters of base62, each drawn evenly from the system's generator.
///
/// # Panics
/// When the operating system has no randomness to give, as nothing safe can be done then.
#[must_use]
pub fn random_base62(len: usize) -> String {
    random_of(BASE62, len)
}

/// The same of other characters: at most 255 of them, all ASCII.
///
/// # Panics
/// As [`random_base62`].
#[must_use]
pub fn random_of(letters: &[u8], len: usize) -> String {
    // The largest multiple of their number that fits a byte: above it the first letters would be likelier.
    let fair = 256 - 256 % letters.len();
    let mut text = String::with_capacity(len);
    let mut pool = [0_u8; 64];
    while text.len() < len {
        aws_lc_rs::rand::fill(&mut pool).expect("the operating system gives randomness");
        let drawn = pool.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        text.extend(drawn.take(len - text.len()).map(|byte| char::from(letters[byte % letters.len()])));
    }
    text
}

/// A number from 0 to 1 that spreads things out; it keeps no secret.
#[must_use]
pub fn random_share() -> f64 {
    let mut bytes = [0_u8; 2];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_or(0.5, |()| f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX))
}

/// A random GUID (version 4), for ids that other systems log.
///
/// # Panics
/// As [`random_base62`].
#[must_use]
pub fn random_guid() -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut bytes = GUIDS.with_borrow_mut(Pool::draw);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = [b'-'; 36];
    for (at, byte) in PLACES.into_iter().zip(bytes) {
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0x0f)];
    }
    // All of it is ASCII.
    str::from_utf8(&text).unwrap_or_default().to_owned()
}

/// Random bytes for several GUIDs, drawn at once: each request has one, and a call of the generator costs more than the
/// bytes that it gives. They are no secret.
struct Pool {
    bytes: [u8; 16 * Self::GUIDS],
    left: usize,
}

thread_local! {
    static GUIDS: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; 16 * Pool::GUIDS], left: 0 }) };
}

impl Pool {
    const GUIDS: usize = 32;

    fn draw(&mut self) -> [u8; 16] {
        if self.left == 0 {
            aws_lc_rs::rand::fill(&mut self.bytes).expect("the operating system gives randomness");
            self.left = Self::GUIDS;
        }
        self.left -= 1;
        self.bytes.as_chunks().0[self.left]
    }
}
