//! The audit events of a file.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// A place for an audit file.
pub(crate) struct AuditLog {
    dir: TempDir,
}

impl AuditLog {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    /// The value of `ENTRADA_AUDIT`.
    pub(crate) fn setting(&self) -> String {
        format!("file:{}", self.path().display())
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }

    /// Every event of it; each line must be one.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whole events; the last line may be broken.
    pub(crate) fn events_after_a_crash(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
