//! Which texts are English prose, by the rules of Gopher and C4.
//!
//! Gopher (Rae et al. 2021, arXiv:2112.11446, appendix A1.1): number and length of words, words with a
//! letter, symbols, lists, ellipses, common English words, repeated lines. C4 (Raffel et al. 2020,
//! arXiv:1910.10683): filler. Counts on lines and words alone; no model decides.

use std::collections::HashSet;

use crate::Reason;

/// Words of a text. Gopher's upper limit of 100,000 is for web pages; a book has more.
const MIN_WORDS: usize = 50;
/// Mean letters of a word.
const MEAN_WORD_LENGTH: std::ops::RangeInclusive<f64> = 3.0..=10.0;
/// Words with a letter.
const MIN_LETTER_WORDS: f64 = 0.8;
/// `#` and ellipses per word.
const MAX_SYMBOLS: f64 = 0.1;
/// Lines that begin with a bullet.
const MAX_BULLETS: f64 = 0.9;
/// Lines that end with an ellipsis.
const MAX_ELLIPSES: f64 = 0.3;
/// Different ones of the common words.
const MIN_COMMON_WORDS: usize = 2;
const COMMON_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];
/// Lines, and bytes in lines, that occur before.
const MAX_REPEATED_LINES: f64 = 0.3;
const MAX_REPEATED_BYTES: f64 = 0.2;

/// Why the text is left out, if it is.
pub fn judge(text: &str) -> Option<Reason> {
    judge_words(text).or_else(|| judge_lines(text))
}

fn judge_words(text: &str) -> Option<Reason> {
    let (mut words, mut letters, mut with_letter, mut symbols) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut common = HashSet::new();
    for word in text.split_whitespace() {
        words += 1;
        letters += word.chars().count();
        with_letter += usize::from(word.chars().any(char::is_alphabetic));
        symbols += word.matches(['#', '…']).count() + word.matches("...").count();
        let bare = word.trim_matches(|character: char| !character.is_alphanumeric());
        common.extend(COMMON_WORDS.iter().position(|known| bare.eq_ignore_ascii_case(known)));
    }
    if words < MIN_WORDS {
        return Some(Reason::WordCount);
    }
    let share = |count: usize| count as f64 / words as f64;
    if !MEAN_WORD_LENGTH.contains(&share(letters)) {
        Some(Reason::WordLength)
    } else if share(with_letter) < MIN_LETTER_WORDS {
        Some(Reason::FewLetters)
    } else if share(symbols) > MAX_SYMBOLS {
        Some(Reason::Symbols)
    } else if common.len() < MIN_COMMON_WORDS {
        Some(Reason::NotEnglish)
    } else {
        contains_filler(text).then_some(Reason::Placeholder)
    }
}

fn judge_lines(text: &str) -> Option<Reason> {
    let (mut lines, mut bullets, mut ellipses) = (0_usize, 0_usize, 0_usize);
    let (mut repeated, mut bytes, mut repeated_bytes) = (0_usize, 0_usize, 0_usize);
    let mut seen = HashSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        lines += 1;
        bytes += line.len();
        bullets += usize::from(line.starts_with(['•', '‣', '*', '-', '–']));
        ellipses += usize::from(line.ends_with(['…']) || line.ends_with("..."));
        if !seen.insert(line) {
            repeated += 1;
            repeated_bytes += line.len();
        }
    }
    let exceeds = |part: usize, whole: usize, limit: f64| part as f64 > limit * whole as f64;
    if exceeds(bullets, lines, MAX_BULLETS) || exceeds(ellipses, lines, MAX_ELLIPSES) {
        Some(Reason::ListLines)
    } else {
        let is_repetitive = exceeds(repeated, lines, MAX_REPEATED_LINES)
            || exceeds(repeated_bytes, bytes, MAX_REPEATED_BYTES);
        is_repetitive.then_some(Reason::RepeatedLines)
    }
}

fn contains_filler(text: &str) -> bool {
    text.match_indices(['L', 'l']).any(|(at, _)| {
        text.as_bytes()[at..].get(..11).is_some_and(|start| start.eq_ignore_ascii_case(b"lorem ipsum"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAGRAPH: &str = "The engine that we have built reads a program from cards, and with them it can \
        be told to add, to take the difference of two numbers, or to compare. No wheel of it has to turn \
        twice for one digit, which is the reason for its speed and also the source of most of its trouble.";

    #[test]
    fn prose_passes() {
        assert_eq!(judge(PARAGRAPH), None);
        assert_eq!(judge(&format!("{PARAGRAPH}\n\n- {PARAGRAPH} Twice.\n")), None);
    }

    #[test]
    fn each_rule_removes_what_it_is_for() {
        let cases = [
            ("The end of it.".to_owned(), Reason::WordCount),
            ("a b c of the ".repeat(20), Reason::WordLength),
            ("antidisestablishmentarianism the of ".repeat(20), Reason::WordLength),
            ("1234 5678 the of 90123 4567 ".repeat(20), Reason::FewLetters),
            ("the #one of #two and #three ".repeat(20), Reason::Symbols),
            ("der Hund und die Katze gehen durch das Haus ".repeat(9), Reason::NotEnglish),
            (format!("{PARAGRAPH} Lorem ipsum dolor."), Reason::Placeholder),
            (
                (0..30).map(|at| format!("- the entry of that list{at} with words\n")).collect(),
                Reason::ListLines,
            ),
            (
                (0..30)
                    .map(|at| format!("the entry{at} of a list with some more words to come for you ...\n"))
                    .collect(),
                Reason::ListLines,
            ),
            ("the same line of words again and again\n".repeat(20), Reason::RepeatedLines),
        ];
        for (text, reason) in cases {
            assert_eq!(judge(&text), Some(reason), "{text}");
        }
    }
}
