//! Tokens in texts that are written down: a path in a log, an object's name in an audit event. Nobody is meant to send one
//! there, but people paste them.

use std::borrow::Cow;

use super::{BEARER_PREFIX, CODE_PREFIX, TOKEN_PREFIX};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "REDACTED";
const JSON_WEB_TOKEN: &str = "eyJ";
const BEGINNINGS: [&str; 4] = [TOKEN_PREFIX, BEARER_PREFIX, CODE_PREFIX, JSON_WEB_TOKEN];
/// What is shorter is the name of something.
const LEAST_BYTES: usize = 24;

/// The text without anything that looks like a token of ours or a JSON Web Token, wherever in it that stands.
#[must_use]
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    // Nearly every text ends here.
    if text.len() < LEAST_BYTES || !BEGINNINGS.iter().any(|beginning| text.contains(beginning)) {
        return Cow::Borrowed(text);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut shown = String::new();
    for piece in text.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        match token_at(word) {
            None => shown.push_str(piece),
            Some(at) => shown.extend([&word[..at], HIDDEN, &piece[word.len()..]]),
        }
    }
    if shown == text { Cow::Borrowed(text) } else { Cow::Owned(shown) }
}

/// Where in a word a token begins, which then goes on to the word's end.
fn token_at(word: &str) -> Option<usize> {
    let at = |beginning: &&str| {
        let at = match *beginning {
            // Many a name has this word in it: what follows it in a code is one random word.
            CODE_PREFIX => word.rfind(CODE_PREFIX)?,
            // What begins later is shorter, so that only the first place counts.
            _ => word.find(beginning)?,
        };
        let is_whole = match *beginning {
            CODE_PREFIX => word[at + CODE_PREFIX.len()..].bytes().all(|byte| byte.is_ascii_alphanumeric()),
            // A list's `continue` begins like a JSON Web Token, which has three parts.
            JSON_WEB_TOKEN => word[at..].matches('.').count() >= 2,
            _ => true,
        };
        (word.len() - at >= LEAST_BYTES && is_whole).then_some(at)
    };
    BEGINNINGS.iter().filter_map(at).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln-_A";

    /// A Kubernetes path is told as it came, byte for byte.
    #[test]
    fn what_holds_no_token_stays_as_it_is() {
        for text in [
            "/api/v1/namespaces/a/pods",
            "/api/v1/namespaces/entrada_/pods/keys",
            "/api/v1/namespaces/entrada_/pods/a-rather-long-name_with_Jokers",
            "/api/v1/namespaces/team/configmaps/source_code_of_a_very_long_script",
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTIzNDV9",
            "/%2e%2e//x",
            "",
        ] {
            assert!(matches!(without_tokens(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    /// Each kind of token is hidden to its end, and nothing else is.
    #[test]
    fn tokens_are_hidden() {
        let random = "aZ09".repeat(12);
        for token in [
            format!("{TOKEN_PREFIX}{random}"),
            format!("{BEARER_PREFIX}{random}"),
            format!("{CODE_PREFIX}{random}"),
            JWT.to_owned(),
        ] {
            for (before, after) in
                [("", ""), ("/api/", "/a"), ("x=Bearer%20", "&y=1"), ("a-", "?"), ("code_", "")]
            {
                let shown = without_tokens(&format!("{before}{token}{after}")).into_owned();
                assert_eq!(shown, format!("{before}{HIDDEN}{after}"));
            }
        }
    }

    /// The longest text that is let in is searched in no time, whatever a stranger writes into it: it took seconds when each
    /// beginning of a token was followed to the end of the text.
    #[test]
    fn many_beginnings_of_tokens_cost_no_time() {
        let began = std::time::Instant::now();
        for beginning in ["eyJ", "entrada_", "eyJ.", "=eyJ&", "code_", "e"] {
            let _shown = without_tokens(&beginning.repeat(64_000 / beginning.len()));
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
    }
}
