//! Reading Rust well enough for the house rules. This is no parser: it blanks comments and literals, finds words, and
//! counts braces.

/// The source with comments and the insides of literals turned to spaces: same length, same lines, only code is left.
pub(crate) fn blank(source: &str) -> String {
    let mut out = source.as_bytes().to_vec();
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment(source, at).unwrap_or(at);
        for byte in out[at..end].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end.max(at + 1);
    }
    // A literal begins and ends at ASCII, so that whole characters are replaced and the rest stays valid.
    String::from_utf8(out).expect("whole characters were blanked")
}

/// Where the comment or literal that starts here ends, if one does.
fn literal_or_comment(source: &str, at: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    let end_of = |from: usize, what: &str| {
        let found = bytes[from..].windows(what.len()).position(|window| window == what.as_bytes());
        found.map_or(bytes.len(), |offset| from + offset + what.len())
    };
    let rest = &bytes[at..];
    let after_ident = at > 0 && is_ident(char::from(bytes[at - 1]));
    match rest {
        [b'/', b'/', ..] => Some(end_of(at, "\n")),
        [b'/', b'*', ..] => Some(end_of_block_comment(bytes, at)),
        [b'r' | b'b' | b'c', ..] if !after_ident => {
            let prefix = rest.iter().take_while(|byte| b"rbc".contains(byte)).count();
            let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
            let raw = rest[..prefix].contains(&b'r') && rest.get(prefix + hashes) == Some(&b'"');
            raw.then(|| end_of(at + prefix + hashes + 1, &format!("\"{}", "#".repeat(hashes))))
        }
        [b'"', ..] => Some(end_of_quoted(bytes, at, b'"')),
        // 'a', '\n' and '\'' are characters; 'a without a closing quote is a lifetime.
        [b'\'', b'\\', ..] => Some(end_of_quoted(bytes, at, b'\'')),
        [b'\'', ..] => {
            let character = source[at + 1..].chars().next()?;
            let close = at + 1 + character.len_utf8();
            (bytes.get(close) == Some(&b'\'')).then_some(close + 1)
        }
        _ => None,
    }
}

fn end_of_quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

pub(crate) fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Identifiers and keywords, each with its place.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let starts = code.char_indices().filter(|&(at, c)| is_ident(c) && !code[..at].ends_with(is_ident));
    starts.map(|(at, _)| (at, code[at..].split(|c| !is_ident(c)).next().unwrap_or_default()))
}

/// The first names of what follows `crate::`: one, or those of the outermost braces in `{a, b::{c, d}}`.
pub(crate) fn first_names(rest: &str) -> Vec<&str> {
    let Some(group) = rest.trim_start().strip_prefix('{') else {
        return words(rest).next().into_iter().filter(|(at, _)| *at == 0).map(|(_, word)| word).collect();
    };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.extend(words(&group[start..at]).next().map(|(_, word)| word));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// The brace that opens the body of the function whose `fn` stands at `at`; none if it has no body.
pub(crate) fn body_start(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at + offset),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

pub(crate) fn matching_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (offset, c) in code[open..].char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return open + offset;
        }
    }
    code.len()
}

/// How many `mod name { … }` of this file stand around this place.
pub(crate) fn inline_depth(code: &str, place: usize) -> usize {
    let around = |&(at, word): &(usize, &str)| {
        let body = body_start(code, at).filter(|body| word == "mod" && *body < place);
        body.is_some_and(|body| matching_brace(code, body) > place)
    };
    words(&code[..place]).filter(around).count()
}

pub(crate) fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}
