//! Where a record of a hand-over lies.

use std::fmt::{self, Write as _};

use crate::secret::Digest;
use crate::session::UserTag;

/// A record's name. It opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place(String);

impl Place {
    /// What a code from the browser stands for.
    pub(super) fn code(code: &Digest) -> Self {
        Self(format!("code:{}", hex(code.as_bytes())))
    }

    /// What a computer asked for; by what the user code gives.
    pub(super) fn asked(user_code: &[u8]) -> Self {
        Self(format!("asked:{}", hex(user_code)))
    }

    /// When a computer asked last.
    pub(super) fn polled(device: &str) -> Self {
        Self(format!("polled:{device}"))
    }

    /// The answer that waits for a computer.
    pub(super) fn answer(device: &str) -> Self {
        Self(format!("answer:{device}"))
    }

    /// How many user codes somebody has tried.
    pub(super) fn tries(user: UserTag) -> Self {
        Self(format!("tries:{user}"))
    }

    /// One for a test.
    #[cfg(test)]
    pub(crate) fn test(name: &str) -> Self {
        Self(format!("test:{name}"))
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
