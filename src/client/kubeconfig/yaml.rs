//! YAML that is read, changed in a few places and written again, with everything else as it was.
//!
//! kubectl reads YAML 1.1, where `yes` is a boolean and `012` is ten. So a plain scalar is never interpreted: it is
//! written as it was read, and what was quoted stays quoted.

use std::fmt::Write as _;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Deeper than any kubeconfig; this is recursive.
const DEEPEST: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Scalar { text: String, is_plain: bool },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

pub(super) struct Parsed {
    pub(super) root: Node,
    pub(super) has_comments: bool,
}

impl Node {
    pub(super) fn string(text: &str) -> Self {
        Self::Scalar { text: text.to_owned(), is_plain: is_plain_word(text) }
    }

    pub(super) fn bool(value: bool) -> Self {
        Self::Scalar { text: value.to_string(), is_plain: true }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar { text, .. } if !self.is_nothing() => Some(text),
            _ => None,
        }
    }

    /// `null`, in each of its spellings.
    pub(super) fn is_nothing(&self) -> bool {
        let Self::Scalar { text, is_plain: true } = self else { return false };
        ["", "~", "null", "Null", "NULL"].contains(&text.as_str())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter_mut().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// Sets a field of a map; of anything else there is none to set.
    pub(super) fn set(&mut self, key: &str, value: Self) {
        match (self.get_mut(key), value) {
            // A string that is the same in another style stays as the user wrote it.
            (Some(old), new) if old.text().is_some() && old.text() == new.text() => {}
            (Some(old), new) => *old = new,
            (None, new) => {
                if let Self::Map(pairs) = self {
                    pairs.push((Self::string(key), new));
                }
            }
        }
    }

    pub(super) fn unset(&mut self, key: &str) {
        if let Self::Map(pairs) = self {
            pairs.retain(|(name, _)| name.text() != Some(key));
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

/// Reads one document. An error names the line.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { parser: Parser::new_from_str(text), text: text.chars().collect(), scalars: Vec::new() };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => break,
            _ if root.is_some() => return Err(at(span, "there is a second document")),
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
    let root = root.unwrap_or(Node::Scalar { text: String::new(), is_plain: true });
    Ok(Parsed { root, has_comments: has_comments(&reader.text, &reader.scalars) })
}

struct Reader<'text, Input: saphyr_parser::Input> {
    parser: Parser<'text, Input>,
    text: Vec<char>,
    /// Where scalars stand, in characters: a `#` elsewhere begins a comment.
    scalars: Vec<(usize, usize)>,
}

impl<'text, Input: saphyr_parser::Input> Reader<'text, Input> {
    fn next(&mut self) -> Result<Option<(Event<'text>, Span)>, String> {
        let next = self.parser.next().transpose();
        next.map_err(|error| format!("line {}: {}", error.marker().line(), error.info()))
    }

    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Node, String> {
        if depth > DEEPEST {
            return Err(at(span, "it is nested too deeply"));
        }
        match event {
            Event::Scalar(text, style, 0, None) => {
                let (start, end) = (span.start.index(), span.end.index());
                let is_quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
                self.scalars.push((start, if is_quoted { self.end_of_quote(start, end) } else { end }));
                Ok(Node::Scalar { text: text.into_owned(), is_plain: style == ScalarStyle::Plain })
            }
            Event::SequenceStart(0, None) => {
                let mut items = Vec::new();
                loop {
                    match self.next()?.ok_or("it ends in the middle")? {
                        (Event::SequenceEnd, _) => return Ok(Node::List(items)),
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut pairs = Vec::new();
                loop {
                    let key = match self.next()?.ok_or("it ends in the middle")? {
                        (Event::MappingEnd, _) => return Ok(Node::Map(pairs)),
                        (event @ Event::Scalar(..), span) => self.node(event, span, depth + 1)?,
                        (_, span) => return Err(at(span, "a key is no text")),
                    };
                    let (event, span) = self.next()?.ok_or("it ends in the middle")?;
                    pairs.push((key, self.node(event, span, depth + 1)?));
                }
            }
            _ => Err(at(span, "anchors, aliases and tags of YAML cannot be kept")),
        }
    }
}

impl<Input: saphyr_parser::Input> Reader<'_, Input> {
    /// The parser's own end of a quoted scalar lies behind the comment that follows.
    fn end_of_quote(&self, start: usize, end: usize) -> usize {
        let text = self.text.get(start..end).unwrap_or_default();
        let quote = text.first().copied();
        let mut index = 1;
        while let Some(&c) = text.get(index) {
            match c {
                '\\' if quote == Some('"') => index += 1,
                '\'' if quote == Some('\'') && text.get(index + 1) == Some(&'\'') => index += 1,
                c if Some(c) == quote => return start + index + 1,
                _ => {}
            }
            index += 1;
        }
        end
    }
}

fn at(span: Span, what: &str) -> String {
    format!("line {}: {what}", span.start.line())
}

fn has_comments(text: &[char], scalars: &[(usize, usize)]) -> bool {
    let mut scalars = scalars.iter().peekable();
    text.iter().enumerate().any(|(index, &c)| {
        while scalars.next_if(|(_, end)| *end <= index).is_some() {}
        c == '#' && scalars.peek().is_none_or(|(start, _)| index < *start)
    })
}

/// Writes in kubectl's own style: two spaces, lists not indented.
pub(super) fn write(root: &Node) -> String {
    let mut text = String::new();
    match root {
        Node::Map(pairs) if !pairs.is_empty() => write_map(&mut text, pairs, 0),
        Node::List(items) if !items.is_empty() => write_list(&mut text, items, 0),
        other => write_inline(&mut text, other),
    }
    text
}

fn write_map(text: &mut String, pairs: &[(Node, Node)], indent: usize) {
    for (index, (key, value)) in pairs.iter().enumerate() {
        // The first line stands behind what its parent has written: nothing, or the dash of a list.
        if index > 0 || text.ends_with('\n') {
            let _fits = write!(text, "{:indent$}", "");
        }
        write_scalar(text, key);
        text.push(':');
        match value {
            Node::Map(pairs) if !pairs.is_empty() => {
                text.push('\n');
                write_map(text, pairs, indent + 2);
            }
            Node::List(items) if !items.is_empty() => {
                text.push('\n');
                write_list(text, items, indent);
            }
            other => {
                text.push(' ');
                write_inline(text, other);
            }
        }
    }
}

fn write_list(text: &mut String, items: &[Node], indent: usize) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || text.ends_with('\n') {
            let _fits = write!(text, "{:indent$}", "");
        }
        text.push_str("- ");
        match item {
            Node::Map(pairs) if !pairs.is_empty() => write_map(text, pairs, indent + 2),
            Node::List(items) if !items.is_empty() => write_list(text, items, indent + 2),
            other => write_inline(text, other),
        }
    }
}

fn write_inline(text: &mut String, node: &Node) {
    match node {
        Node::Scalar { .. } => write_scalar(text, node),
        Node::List(_) => text.push_str("[]"),
        Node::Map(_) => text.push_str("{}"),
    }
    text.push('\n');
}

fn write_scalar(text: &mut String, node: &Node) {
    let Node::Scalar { text: own, is_plain } = node else { return };
    match own.as_str() {
        "" if *is_plain => text.push_str("null"),
        // A plain scalar of several lines was folded, and is text.
        own if *is_plain && !own.contains('\n') => text.push_str(own),
        own => quote(text, own),
    }
}

/// As a JSON string, which YAML reads alike, but for characters that YAML wants escaped.
fn quote(text: &mut String, own: &str) {
    let json = serde_json::to_string(own).unwrap_or_default();
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                let _fits = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
}

/// Text that no version of YAML reads as anything else.
fn is_plain_word(text: &str) -> bool {
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./@+=:".contains(c))
        && !text.ends_with(':')
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        write(&parse(text).unwrap().root)
    }

    #[test]
    fn what_is_not_touched_stays_as_it_was() {
        // Proves that scalars keep their type for a reader of YAML 1.1, and that every shape survives.
        for text in [
            "a: yes\nb: \"yes\"\nc: 012\nd: 1e3\ne: ~\n",
            "list:\n- name: x\n  user:\n    token: \"0123\"\n- - a\n  - b\n-\u{20}plain words\nempty: []\nnone: {}\n",
            "key with spaces: a#b\n\"quoted: key\": \"line\\nline\\n\"\n",
        ] {
            assert_eq!(written(text), text);
        }
        assert_eq!(written("{a: [1, {b: 'it''s'}]}"), "a:\n- 1\n- b: \"it's\"\n");
        assert_eq!(
            written("a: |\n  x\n  y\nb: >-\n  x\n  y\nc: one\n  two\n"),
            "a: \"x\\ny\\n\"\nb: \"x y\"\nc: one two\n"
        );
        assert_eq!(written("a:\nb: \"\u{85}\u{2028}\""), "a: null\nb: \"\\u0085\\u2028\"\n");
        assert_eq!(written(&written("a: {b: [], c: [[[x]]]}")), written("a: {b: [], c: [[[x]]]}"));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_its_line() {
        // Proves that nothing is lost in silence: broken text, aliases, tags, a second document, endless depth.
        let fault = |text: &str| parse(text).err().unwrap();
        assert!(fault("a: 1\nb: [\n").starts_with("line "));
        assert_eq!(fault("a: &x 1\nb: *x\n"), "line 1: anchors, aliases and tags of YAML cannot be kept");
        assert_eq!(
            fault("a: 1\nb: !!binary x\n"),
            "line 2: anchors, aliases and tags of YAML cannot be kept"
        );
        assert_eq!(fault("a: 1\n---\nb: 1\n"), "line 3: there is a second document");
        assert!(fault(&"[".repeat(100)).contains("line 1"));
        assert!(parse("").unwrap().root.is_nothing());
    }

    #[test]
    fn comments_are_noticed_and_only_they() {
        // Proves that a number sign within text is no comment.
        let has = |text: &str| parse(text).unwrap().has_comments;
        for text in [
            "# top\na: 1\n",
            "a: 1 # end\n",
            "a:\n  # between\n  b: 1\n",
            "a: 'it''s' # y",
            "a: \"\\\"\" # y",
            "a: 1\n#",
            "a: |\n  x\n# y\nb: 1\n",
        ] {
            assert!(has(text), "{text}");
        }
        for text in
            ["a: b#c\n", "a: '# x'\nb: \"# y\"\n", "a: |\n  # text\n  x\n", "# x".trim_start_matches("# x")]
        {
            assert!(!has(text), "{text}");
        }
    }

    #[test]
    fn new_text_is_quoted_where_any_reader_could_take_it_for_more() {
        // Proves that names which others chose stay text.
        for plain in
            ["v1", "https://k8s.example.com:8443", "LS0tLS1CRUdJTiB+/=", "client.authentication.k8s.io/v1"]
        {
            assert_eq!(write(&Node::string(plain)).trim_end(), plain);
        }
        for text in ["", "yes", "NULL", "1", "-x", "a: b", "a #b", "*x", "x:", "0x1", "é", "a\nb"] {
            let written = write(&Node::string(text));
            assert!(written.starts_with('"'), "{written}");
            assert_eq!(parse(&written).unwrap().root.text(), Some(text));
        }
    }
}
