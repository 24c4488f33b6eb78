//! A Rust file seen without its comments and literals, and which part of it is test code.

use std::ops::Range;

/// A Rust file. Offsets and lines are the same in all views.
pub struct Source<'a> {
    /// Path relative to the root.
    pub path: &'a str,
    /// The file as it is.
    pub text: &'a str,
    /// Comments and literals blanked: every word left is code.
    pub code: String,
    tests: Vec<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl<'a> Source<'a> {
    /// Scans `text`.
    pub fn new(path: &'a str, text: &'a str) -> Self {
        let code = code_only(text);
        let tests =
            if is_test_path(path) { std::iter::once(0..text.len()).collect() } else { test_ranges(&code) };
        Self { path, text, code, tests }
    }

    /// Line of a byte offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    /// Whether the offset lies in a test function, a `#[cfg(test)]` item or a test file.
    pub fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    /// Identifiers and keywords of the code with their offsets.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }

    /// Offsets of calls of the macro `name`, as in `name!(`.
    pub fn macro_calls(&self, name: &str) -> impl Iterator<Item = usize> {
        let calls = move |&(offset, word): &(usize, &str)| {
            let rest = self.code[offset + word.len()..].trim_start();
            word == name && rest.starts_with('!') && !rest.starts_with("!=")
        };
        self.words().filter(calls).map(|(offset, _)| offset)
    }
}

/// End of the block whose `{` is the first one at or after `start`; `None` if a `;` comes first.
pub fn block_end(code: &str, start: usize) -> Option<usize> {
    let mut braces = 0usize;
    let mut brackets = 0usize;
    for (offset, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' => braces += 1,
            b'}' if braces == 1 && brackets == 0 => return Some(offset + 1),
            b'}' => braces = braces.saturating_sub(1),
            b'(' | b'[' if braces == 0 => brackets += 1,
            b')' | b']' if braces == 0 => brackets = brackets.saturating_sub(1),
            b';' if braces == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

fn is_test_path(path: &str) -> bool {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    file == "tests.rs" || folders.split('/').any(|folder| matches!(folder, "tests" | "benches"))
}

fn test_ranges(code: &str) -> Vec<Range<usize>> {
    let attributes = code.match_indices("#[").filter(|&(start, _)| is_test_attribute(&code[start..]));
    attributes.filter_map(|(start, _)| Some(start..block_end(code, attribute_end(code, start))?)).collect()
}

/// `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ...))]`; not `#[cfg(not(test))]`.
fn is_test_attribute(code: &str) -> bool {
    let attribute = &code[2..attribute_end(code, 0)];
    let names: Vec<&str> = words(attribute).map(|(_, word)| word).collect();
    match names.as_slice() {
        ["test"] => true,
        ["cfg", conditions @ ..] => conditions.contains(&"test") && !conditions.contains(&"not"),
        _ => false,
    }
}

fn attribute_end(code: &str, start: usize) -> usize {
    code[start..].find(']').map_or(code.len(), |length| start + length + 1)
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = code.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, _) = rest.find(|&(_, c)| is_part(c))?;
        let mut end = start + 1;
        while let Some((offset, c)) = rest.next_if(|&(_, c)| is_part(c)) {
            end = offset + c.len_utf8();
        }
        Some((start, &code[start..end]))
    })
}

fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let (end, kind) = span(bytes, at);
        for &byte in &bytes[at..end] {
            let kept = byte == b'\n' || (kind == Kind::Code && byte.is_ascii());
            code.push(if kept { char::from(byte) } else { ' ' });
        }
        at = end;
    }
    code
}

/// End and kind of the comment, literal, word or byte that begins at `at`.
fn span(text: &[u8], at: usize) -> (usize, Kind) {
    let rest = &text[at..];
    let length_and_kind = match rest[0] {
        b'/' if rest.starts_with(b"//") => {
            (rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()), Kind::Comment)
        }
        b'/' if rest.starts_with(b"/*") => (block_comment(rest), Kind::Comment),
        b'"' => (string(rest), Kind::Literal),
        b'\'' => character(rest).map_or((1, Kind::Code), |length| (length, Kind::Literal)),
        byte if byte.is_ascii_alphabetic() || byte == b'_' => match raw_string(rest) {
            Some(length) => (length, Kind::Literal),
            None => (word_length(rest), Kind::Code),
        },
        _ => (1, Kind::Code),
    };
    (at + length_and_kind.0, length_and_kind.1)
}

fn word_length(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(text.len())
}

fn block_comment(text: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Length of `r"..."`, `br#"..."#` and the like.
fn raw_string(text: &[u8]) -> Option<usize> {
    let prefix =
        [&b"r"[..], b"br", b"cr"].into_iter().find(|prefix| text[..word_length(text)] == **prefix)?.len();
    let hashes = text[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    let body = prefix + hashes + 1;
    if text.get(body - 1) != Some(&b'"') {
        return None;
    }
    let closing = [b"\"", "#".repeat(hashes).as_bytes()].concat();
    let length = text[body..].windows(closing.len()).position(|window| window == closing);
    Some(length.map_or(text.len(), |length| body + length + closing.len()))
}

/// Length of a character literal; `None` for a lifetime.
fn character(text: &[u8]) -> Option<usize> {
    if text.get(1) == Some(&b'\\') {
        let close = text.iter().skip(3).position(|&byte| byte == b'\'')?;
        return Some(close + 4);
    }
    let length = text.iter().skip(1).take(5).position(|&byte| byte == b'\'')?;
    let is_one_character =
        std::str::from_utf8(&text[1..=length]).is_ok_and(|inside| inside.chars().count() == 1);
    is_one_character.then_some(length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str) -> Vec<String> {
        Source::new("crates/x/src/lib.rs", text).words().map(|(_, word)| word.to_owned()).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "a // b\n/* c /* d */ e */ f \"g \\\" h\" r#\"i \" j\"# b\"k\" 'l' '\\'' '\u{e9}' m";
        assert_eq!(words_of(text), ["a", "f", "b", "m"]);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        assert_eq!(
            words_of("fn f<'a>(r: &'a str, r#in: u8) {}"),
            ["fn", "f", "a", "r", "a", "str", "r", "in", "u8"]
        );
    }

    #[test]
    fn offsets_survive_characters_of_several_bytes() {
        let source = Source::new("crates/x/src/lib.rs", "// \u{e9}\u{e9}\nlet x = \"\u{e9}\"; y");
        let (offset, _) = source.words().find(|(_, word)| *word == "y").expect("`y` is code");
        assert_eq!((source.line(offset), &source.text[offset..]), (2, "y"));
    }

    #[test]
    fn test_code_is_known_by_attribute_and_by_path() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod t { fn b() {} }\n#[cfg(not(test))]\nfn c() {}\n#[test]\nfn d() {}";
        let source = Source::new("crates/x/src/lib.rs", text);
        let is_test = |name: &str| {
            let (offset, _) =
                source.words().find(|(_, word)| *word == name).expect("the name is in the text");
            source.is_test(offset)
        };
        assert_eq!(["a", "b", "c", "d"].map(is_test), [false, true, false, true]);
        assert!(Source::new("crates/x/tests/cli.rs", text).is_test(3));
        assert!(Source::new("crates/x/src/block/tests.rs", text).is_test(3));
    }

    #[test]
    fn block_end_skips_braces_inside_brackets() {
        let code = "fn f(x: [u8; { 1 + 1 }]) { { } } fn g() {}";
        assert_eq!(block_end(code, 0).map(|end| &code[..end]), Some("fn f(x: [u8; { 1 + 1 }]) { { } }"));
        assert_eq!(block_end("fn f(); {}", 0), None);
    }
}
