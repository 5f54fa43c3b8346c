//! What goes wrong on the way to the store.

use std::time::Duration;

use super::rng::Rng;

/// How often what goes wrong, in a hundred.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) calls: u64,
    pub(super) lost_messages: u64,
}

/// What becomes of a call.
pub(super) enum Fate {
    Good,
    /// It never arrives.
    Lost,
    /// It does what it shall, but nobody hears of it.
    Unheard,
    /// It arrives long after its caller has given up.
    Late(Duration),
    /// It arrives once more, later.
    Twice(Duration),
    /// It is sent again at once, because the first answer was lost, and the second answer counts.
    Resent,
}

impl Fate {
    /// Something goes wrong with so many of a hundred calls.
    pub(super) fn draw(percent: u64, rng: &mut Rng) -> Self {
        if !rng.percent(percent) {
            return Self::Good;
        }
        match rng.below(5) {
            0 => Self::Lost,
            1 => Self::Unheard,
            2 => Self::Late(rng.millis(1_000, 20_000)),
            3 => Self::Resent,
            _ => Self::Twice(rng.millis(1, 20_000)),
        }
    }
}
