//! Content that is made while it is read: as many bytes as asked for, which look like noise and are always the same.

use bytes::{BufMut, Bytes, BytesMut};

/// What is made at once.
pub(crate) const PIECE_BYTES: usize = 32 * 1024;

/// `length` bytes, piece by piece.
pub(crate) fn pieces(length: u64) -> impl Iterator<Item = Bytes> + Send {
    let step = PIECE_BYTES as u64;
    (0..length.div_ceil(step)).map(move |piece| {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
        for word in piece * step / 8..(piece + 1) * step / 8 {
            bytes.put_u64(noise(word));
        }
        let left = usize::try_from(length - piece * step).unwrap_or(usize::MAX);
        bytes.truncate(left);
        bytes.freeze()
    })
}

/// The steps of SplitMix64: cheap, and no two words alike.
fn noise(number: u64) -> u64 {
    let mut word = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Reads `200M`, `4K` or `17` as a number of bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (digits, "K") => (digits, 1 << 10),
        (digits, "M") => (digits, 1 << 20),
        (digits, "G") => (digits, 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_made_as_was_asked_for() {
        // Proves that the end is cut to the byte, and that a shorter content is the beginning of a longer one.
        let whole: Vec<u8> = pieces(100_000).flatten().collect();
        assert_eq!(whole.len(), 100_000);
        assert_eq!(whole[..40_001], pieces(40_001).flatten().collect::<Vec<u8>>());
        assert_eq!(pieces(0).count(), 0);
        let sizes = ["17", "4K", "200M", "1G", "", "M", "x"].map(size);
        assert_eq!(sizes, [Some(17), Some(4096), Some(200 << 20), Some(1 << 30), None, None, None]);
    }
}
