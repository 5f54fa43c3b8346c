//! Who was given which token. kubectl asks again, within the same process, only after the server answered 401: then the
//! token is checked before it is given again, or kubectl would be told the same refused token for ever.
//!
//! And for whom a sign-in has just failed. kubectl asks up to five times for one command: a person who has pressed Refuse
//! shall not see the browser open four times more.

use jiff::Timestamp;

use super::cache::Cache;
use super::files;

const MAX_BYTES: u64 = 16 * 1024;
/// More programs than run kubectl at the same time. When more do, one may be given a refused token once more.
const MOST_KEPT: usize = 64;
/// kubectl repeats its question at once.
const FAILURE_COUNTS_SECONDS: u64 = 10;

/// The latest hand-outs, each as `<asker> <token's id>`, and failed sign-ins, each as `<asker> failed <seconds>`. The
/// file may be lost or broken: that costs one refused request, or one browser more.
#[derive(Clone)]
pub(super) struct Handed {
    lines: Vec<String>,
}

impl Handed {
    pub(super) fn read(cache: &Cache) -> Self {
        let text = files::read(&cache.file("handed"), MAX_BYTES).unwrap_or_default();
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    pub(super) fn was_given(&self, id: &str) -> bool {
        let line = line(id);
        self.lines.contains(&line)
    }

    pub(super) fn note(self, id: &str, cache: &Cache) {
        self.add(line(id), cache);
    }

    /// Whether a sign-in for the same asker failed a moment ago.
    pub(super) fn has_failed(&self, now: Timestamp) -> bool {
        let failure = line("failed ");
        let mut moments =
            self.lines.iter().filter_map(|line| line.strip_prefix(&failure)?.parse::<i64>().ok());
        moments.any(|moment| now.as_second().abs_diff(moment) < FAILURE_COUNTS_SECONDS)
    }

    pub(super) fn note_failure(&self, now: Timestamp, cache: &Cache) {
        self.clone().add(line(&format!("failed {}", now.as_second())), cache);
    }

    /// Where nothing can be written, nothing is remembered.
    fn add(mut self, line: String, cache: &Cache) {
        if self.lines.last() == Some(&line) {
            return;
        }
        self.lines.retain(|other| *other != line);
        self.lines.push(line);
        let first = self.lines.len().saturating_sub(MOST_KEPT);
        let text = self.lines.split_off(first).join("\n");
        let _not_remembered = files::replace_cached(&cache.file("handed"), text.as_bytes());
    }
}

fn line(what: &str) -> String {
    format!("{} {what}", asker())
}

/// The process that started us.
#[cfg(unix)]
fn asker() -> u32 {
    std::os::unix::process::parent_id()
}

/// Windows does not tell it: every hand-out of a token but the first is checked with the server.
#[cfg(not(unix))]
fn asker() -> u32 {
    0
}
