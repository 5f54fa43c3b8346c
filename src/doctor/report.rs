//! What was found, as text for people and as JSON for scripts.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Check, Finding};

/// Of what a peer wrote, this much is shown.
const MAX_CHARS: usize = 400;

/// Everything that was found, in order.
#[derive(Debug)]
pub(crate) struct Report(Vec<Check>);

/// A row of the JSON form.
#[derive(Serialize)]
struct Row<'a> {
    check: &'a str,
    ok: bool,
    seen: String,
    fix: String,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        Self(checks)
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        !self.0.iter().any(Check::is_fault)
    }

    /// An array of `{"check","ok","seen","fix"}`. What was skipped is left out: it is neither well nor another fault.
    #[must_use]
    pub(crate) fn json(&self) -> String {
        let row = |check: &Check| {
            let (ok, seen, fix) = match &check.finding {
                Finding::Fine(seen) => (true, plain(seen), String::new()),
                Finding::Fault { seen, fix } => (false, plain(seen), plain(fix)),
                Finding::Skipped(_) => return None,
            };
            Some(Row { check: check.name, ok, seen, fix })
        };
        let rows: Vec<Row<'_>> = self.0.iter().filter_map(row).collect();
        let mut text = serde_json::to_string_pretty(&rows).expect("rows of text");
        text.push('\n');
        text
    }

    /// A line for each check, and one that sums up.
    #[must_use]
    pub(crate) fn text(&self, with_colours: bool) -> String {
        let (green, red, grey, end) =
            if with_colours { ("\x1b[32m", "\x1b[31;1m", "\x1b[90m", "\x1b[0m") } else { ("", "", "", "") };
        let width = self.0.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for Check { name, finding } in &self.0 {
            let _infallible = match finding {
                Finding::Fine(seen) => {
                    writeln!(text, "{green}ok   {end}  {name:width$}  {}", plain(seen))
                }
                Finding::Fault { seen, fix } => {
                    writeln!(text, "{red}FAULT{end}  {name:width$}  {}. Fix: {}", plain(seen), plain(fix))
                }
                Finding::Skipped(because_of) => {
                    writeln!(
                        text,
                        "{grey}skip {end}  {name:width$}  not looked at before {because_of} is well"
                    )
                }
            };
        }
        let _infallible = match self.0.iter().filter(|check| check.is_fault()).count() {
            0 => writeln!(text, "\nAll is well."),
            1 => writeln!(text, "\nOne fault."),
            count => writeln!(text, "\n{count} faults."),
        };
        text
    }
}

/// What peers, files and variables hold cannot move a terminal's cursor, break a line, or fill a screen.
fn plain(text: &str) -> String {
    // Beside control characters: what is not seen, and what turns the direction of writing.
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    let mut plain: String =
        text.trim().chars().map(|c| if unseen(c) { ' ' } else { c }).take(MAX_CHARS).collect();
    if text.chars().count() > MAX_CHARS {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Check::fine("settings", "all known"),
            Check::fault("authority", "it said \x1b[2J\r\nbye\u{202e}", "do this"),
            Check::skipped("clock", "authority"),
        ])
    }

    /// A line for each check; what a peer says cannot move the cursor or begin a line of its own.
    #[test]
    fn text_is_a_line_for_each_check() {
        insta::assert_snapshot!(report().text(false));
        assert!(report().text(true).contains("\x1b[31;1mFAULT\x1b[0m"));
        assert!(!report().text(true).contains("\x1b[2J"));
    }

    /// Scripts see what was looked at, and nothing else.
    #[test]
    fn json_leaves_out_what_was_skipped() {
        let rows: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(
            rows,
            serde_json::json!([
                {"check": "settings", "ok": true, "seen": "all known", "fix": ""},
                {"check": "authority", "ok": false, "seen": "it said  [2J  bye ", "fix": "do this"},
            ])
        );
        assert!(!report().is_good());
    }

    /// A megabyte of a peer's words does not fill the screen.
    #[test]
    fn long_words_are_cut() {
        assert_eq!(plain(&"x".repeat(1 << 20)).chars().count(), MAX_CHARS + 1);
    }
}
