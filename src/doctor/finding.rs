//! What a check comes to.

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    /// Stable: scripts know checks by their names.
    pub(super) name: &'static str,
    /// What came of it.
    pub(super) finding: Finding,
}

/// What came of a check.
#[derive(Debug)]
pub(super) enum Finding {
    /// All is well; what was seen.
    Fine(String),
    /// Something is wrong.
    Fault {
        /// What was seen.
        seen: String,
        /// What to do about it.
        fix: String,
    },
    /// Not looked at, because of a fault that this one check names.
    Skipped(&'static str),
}

impl Finding {
    pub(super) fn fine(seen: impl Into<String>) -> Self {
        Self::Fine(seen.into())
    }

    pub(super) fn fault(seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Fault { seen: seen.into(), fix: fix.into() }
    }
}

impl Check {
    pub(super) fn fine(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, finding: Finding::fine(seen) }
    }

    pub(super) fn fault(name: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, finding: Finding::fault(seen, fix) }
    }

    pub(super) fn skipped(name: &'static str, because_of: &'static str) -> Self {
        Self { name, finding: Finding::Skipped(because_of) }
    }

    pub(super) fn is_fine(&self) -> bool {
        matches!(self.finding, Finding::Fine(_))
    }

    pub(super) fn is_fault(&self) -> bool {
        matches!(self.finding, Finding::Fault { .. })
    }
}
