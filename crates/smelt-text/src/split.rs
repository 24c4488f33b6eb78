//! Splitting text into words as the regular expressions of byte-level tokenizers do.
//!
//! A scanner by hand for the patterns of GPT-2 and of GPT-4's successors (Llama 3, Qwen 2 and 3): the
//! same words as the `onig` crate finds, many times faster. Other patterns are left to that crate.

mod classes;

use self::classes::{CLASSES, Class};

/// GPT-2's pattern, as the `ByteLevel` pre-tokenizer of the `tokenizers` crate has it.
#[cfg(test)]
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Qwen 2 and 3: as GPT-4's, with every digit a word.
pub const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// GPT-4 and Llama 3: up to three digits a word.
pub const GPT4: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a text is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Words with a space before them; runs of digits.
    Gpt2,
    /// Words with any one character before them; line feeds apart; so many digits at most.
    Gpt4 {
        /// Digits in a word.
        digits: usize,
    },
}

impl Split {
    /// The scanner for a regular expression, if there is one.
    pub fn from_pattern(pattern: &str) -> Option<Self> {
        match pattern {
            QWEN2 => Some(Self::Gpt4 { digits: 1 }),
            GPT4 => Some(Self::Gpt4 { digits: 3 }),
            _ => None,
        }
    }

    /// The words of `text` in order; put together they are the text.
    pub fn words(self, text: &str) -> impl Iterator<Item = &str> + use<'_> {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (word, after) = rest.split_at(self.first_word(rest));
            rest = after;
            Some(word)
        })
    }

    /// Length of the first word of `text`, which is not empty.
    fn first_word(self, text: &str) -> usize {
        match self {
            Self::Gpt2 => gpt2_word(text),
            Self::Gpt4 { digits } => gpt4_word(text, digits),
        }
    }
}

fn gpt2_word(text: &str) -> usize {
    if let Some(suffix) = contraction(text, false) {
        return suffix;
    }
    let (first, class, length) = first_character(text);
    let start = if first == ' ' { 1 } else { 0 };
    let leading = if start == 1 { class_at(text, 1) } else { Some(class) };
    match leading {
        Some(kind @ (Class::Letter | Class::Number | Class::Other)) => run(text, start, kind),
        _ => blanks(text, length),
    }
}

fn gpt4_word(text: &str, digits: usize) -> usize {
    if let Some(suffix) = contraction(text, true) {
        return suffix;
    }
    let (first, class, length) = first_character(text);
    match class {
        Class::Letter => return run(text, 0, Class::Letter),
        Class::Number => return numbers(text, digits),
        _ if !matches!(first, '\r' | '\n') && class_at(text, length) == Some(Class::Letter) => {
            return run(text, length, Class::Letter);
        }
        _ => {}
    }
    let start = if first == ' ' { 1 } else { 0 };
    let leading = if start == 1 { class_at(text, 1) } else { Some(class) };
    if leading == Some(Class::Other) {
        let end = run(text, start, Class::Other);
        return end + line_breaks(&text.as_bytes()[end..]);
    }
    let end = run(text, 0, Class::Blank);
    match text[..end].rfind(['\r', '\n']) {
        Some(last) => last + 1,
        None => blanks(text, length),
    }
}

/// The length of `'s`, `'re` and their like, in any case if `any_case`.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let suffix = text.strip_prefix('\'')?;
    let mut letters = suffix.chars().map(|letter| if any_case { folded(letter) } else { letter });
    let first = suffix.chars().next()?;
    match (letters.next()?, letters.next()) {
        ('s' | 't' | 'm' | 'd', _) => Some(1 + first.len_utf8()),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}

/// The lower case of the letters that matter; the long s counts as one.
fn folded(letter: char) -> char {
    if letter == 'ſ' { 's' } else { letter.to_ascii_lowercase() }
}

/// The end of the run of `class` that starts at `start`.
fn run(text: &str, start: usize, class: Class) -> usize {
    let rest = &text[start..];
    rest.char_indices().find(|(_, next)| CLASSES.of(*next) != class).map_or(text.len(), |(at, _)| start + at)
}

fn numbers(text: &str, most: usize) -> usize {
    let numbers = text.chars().take_while(|next| CLASSES.of(*next) == Class::Number);
    numbers.take(most).map(char::len_utf8).sum()
}

fn line_breaks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// The blanks at the start of `text`, but the last if a word follows it: that one belongs to the word.
fn blanks(text: &str, first_length: usize) -> usize {
    let end = run(text, 0, Class::Blank);
    if end == text.len() || end == first_length {
        return end;
    }
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    end - last
}

fn first_character(text: &str) -> (char, Class, usize) {
    let first = text.chars().next().expect("only asked of text that is not empty");
    (first, CLASSES.of(first), first.len_utf8())
}

fn class_at(text: &str, at: usize) -> Option<Class> {
    text[at..].chars().next().map(|next| CLASSES.of(next))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::split::{Split as RegexSplit, SplitPattern};
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
    };

    use super::*;

    const PATTERNS: [(Split, &str); 3] =
        [(Split::Gpt2, GPT2), (Split::Gpt4 { digits: 1 }, QWEN2), (Split::Gpt4 { digits: 3 }, GPT4)];

    /// What a pattern finds as a regular expression, through the crate that Python uses.
    fn expected(number: usize, text: &str) -> Vec<String> {
        static SPLITS: LazyLock<[RegexSplit; 3]> = LazyLock::new(|| {
            PATTERNS.map(|(_, pattern)| {
                let pattern = SplitPattern::Regex(pattern.to_owned());
                RegexSplit::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap()
            })
        });
        let mut words = PreTokenizedString::from(text);
        SPLITS[number].pre_tokenize(&mut words).unwrap();
        let words = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
        words.into_iter().map(|(word, ..)| word.to_owned()).collect()
    }

    fn assert_same(text: &str) {
        for (number, (split, _)) in PATTERNS.into_iter().enumerate() {
            let words: Vec<&str> = split.words(text).collect();
            assert_eq!(words, expected(number, text), "{split:?}: {text:?}");
        }
    }

    #[test]
    fn every_character_has_the_class_that_onig_gives_it() {
        let all: Vec<char> = ('\u{0}'..=char::MAX).collect();
        for some in all.chunks(20_000) {
            // Behind a letter and a space, each class splits in its own way.
            assert_same(&some.iter().flat_map(|next| ['a', *next, ' ', *next, '1']).collect::<String>());
        }
    }

    #[test]
    fn patterns_are_known_by_their_spelling() {
        for (split, pattern) in &PATTERNS[1..] {
            assert_eq!(Split::from_pattern(pattern), Some(*split));
        }
        assert_eq!(Split::from_pattern(r"\s+"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn words_are_those_of_the_regular_expression(
            parts in prop::collection::vec("['sStTlLrRvVeEmMdDſ]{0,3}|[a1!. \n\r\t\u{a0}\u{3000}é中٣\u{301}]{0,4}|\\PC{0,2}", 0..12)
        ) {
            assert_same(&parts.concat());
        }
    }
}
