//! What the user reads: on standard error, because `credential`'s standard output belongs to kubectl.

use std::io::{self, IsTerminal as _, Write as _};

/// How to talk to whoever started us.
#[derive(Clone, Copy)]
pub(super) struct Talk {
    terminal: bool,
    colour: bool,
}

impl Talk {
    pub(super) fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        // https://no-color.org: set and not empty.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { terminal, colour: terminal && !no_colour && !dumb }
    }

    /// Whether a person sees it.
    pub(super) fn is_terminal(self) -> bool {
        self.terminal
    }

    pub(super) fn say(self, text: impl AsRef<str>) {
        self.clear();
        // Whoever closed standard error does not want to know.
        let _closed = writeln!(io::stderr(), "{}", text.as_ref());
    }

    /// A line that the next one replaces; only a terminal can do that.
    pub(super) fn progress(self, text: &str) {
        if self.terminal {
            let _closed = write!(io::stderr(), "\r\x1b[K{text}");
            let _closed = io::stderr().flush();
        }
    }

    /// Takes the progress line away.
    pub(super) fn clear(self) {
        self.progress("");
    }

    pub(super) fn bold(self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What another computer said, as one line without control characters that a terminal would obey.
pub(super) fn plain(text: &str, most_chars: usize) -> String {
    // Also what turns the direction of writing around: it can make one address look like another.
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let replaced = |c: char| if c.is_control() || turns(c) { ' ' } else { c };
    text.chars().map(replaced).take(most_chars).collect::<String>().trim().to_owned()
}
