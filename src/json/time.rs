//! Times as the API server writes them into its audit events: RFC 3339 in UTC with microseconds.

use std::cell::Cell;

use jiff::Timestamp;
use jiff::tz::Offset;

/// A time as text. It is written digit by digit: a library's general formatting costs ten times as much, and each
/// request has four times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time([u8; 27]);

thread_local! {
    /// The second that was written last, which is nearly always that of the next time, too.
    static LAST: Cell<(i64, [u8; 27])> = const { Cell::new((i64::MIN, [0; 27])) };
}

impl Time {
    /// Of the years 1970 to 9999, among which all clocks are.
    pub(crate) fn of(time: Timestamp) -> Self {
        let (second, mut text) = LAST.get();
        if second != time.as_second() {
            text = Self::to_the_second(time);
            LAST.set((time.as_second(), text));
        }
        digits(&mut text[20..26], time.subsec_nanosecond().unsigned_abs() / 1_000);
        Self(text)
    }

    fn to_the_second(time: Timestamp) -> [u8; 27] {
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
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        // All of it is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The value's last digits, as many as there are places.
pub(super) fn digits(places: &mut [u8], mut value: u32) {
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
        /// From 1970 to 9999, it is what the library writes, also of a time in the second that was written last.
        #[test]
        fn a_time_is_written_as_rfc_3339_has_it(
            second in 0..253_402_207_200_i64,
            nanos in proptest::array::uniform3(0..1_000_000_000),
        ) {
            for nano in nanos {
                let time = Timestamp::new(second, nano).unwrap();
                let written = Time::of(time);
                prop_assert_eq!(written.as_str(), format!("{time:.6}"));
            }
        }
    }
}
