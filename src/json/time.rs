//! Times as the API server writes them into its events: RFC 3339 in UTC with microseconds.

use jiff::Timestamp;
use jiff::tz::Offset;

/// A time as text. It is written digit by digit: a library's general formatting costs ten times as much, and each
/// request has three times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time([u8; 27]);

impl Time {
    /// Of the years 0 to 9999, among which all clocks are.
    pub(super) fn of(time: Timestamp) -> Self {
        let civil = Offset::UTC.to_datetime(time);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[..4], civil.year().unsigned_abs().into());
        for (at, value) in [
            (5, civil.month()),
            (8, civil.day()),
            (11, civil.hour()),
            (14, civil.minute()),
            (17, civil.second()),
        ] {
            digits(&mut text[at..at + 2], value.unsigned_abs().into());
        }
        digits(&mut text[20..26], civil.subsec_nanosecond().unsigned_abs() / 1_000);
        Self(text)
    }

    pub(super) fn text(&self) -> &str {
        // All of it is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn digits(places: &mut [u8], mut value: u32) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// From 1970 to 9999, it is what the library writes.
        #[test]
        fn a_time_is_written_as_rfc_3339_has_it(micros in 0..253_402_207_200_000_000_i64, nanos in 0..1_000_i64) {
            let time = Timestamp::from_nanosecond(i128::from(micros) * 1_000 + i128::from(nanos)).unwrap();
            let written = Time::of(time);
            prop_assert_eq!(written.text(), format!("{time:.6}"));
        }
    }
}
