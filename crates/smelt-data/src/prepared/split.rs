//! Which text is trained on and which is held out.
//!
//! By document, decided by the document's own content and the seed: files added later move no other.
//! A corpus of a few documents, or one dominated by a held-out document, has the end of every document
//! held out instead.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Corpus, derive_seed};

/// With fewer documents than this, one of them is too large a part to hold out.
const MIN_DOCUMENTS: usize = 10;

/// How a corpus is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitRule {
    /// Whole documents are held out.
    Documents,
    /// The end of every document is held out.
    Tails,
}

/// The texts of both parts, in the order of the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<'c> {
    pub rule: SplitRule,
    pub train: Vec<&'c str>,
    pub val: Vec<&'c str>,
}

/// Splits `corpus`; `val_fraction` 0 holds nothing out.
pub fn split(corpus: &Corpus, val_fraction: f64, seed: u64) -> Split<'_> {
    let by_documents = split_documents(corpus, val_fraction, seed);
    let bytes = |texts: &[&str]| texts.iter().map(|text| text.len()).sum::<usize>();
    let (train_bytes, val_bytes) = (bytes(&by_documents.train), bytes(&by_documents.val));
    let is_lopsided = train_bytes == 0 || val_fraction < 0.5 && val_bytes > train_bytes;
    if val_fraction > 0.0 && (is_lopsided || corpus.documents.len() < MIN_DOCUMENTS) {
        split_tails(corpus, val_fraction)
    } else {
        by_documents
    }
}

fn split_documents(corpus: &Corpus, val_fraction: f64, seed: u64) -> Split<'_> {
    let ranks: Vec<u64> =
        corpus.documents.iter().map(|document| content_rank(&document.text, seed)).collect();
    // As a cast of a float this saturates: the fraction is below 1, the product below 2^64.
    let mut threshold = (val_fraction * 2.0_f64.powi(64)) as u64;
    if val_fraction > 0.0 {
        // At least the document of the lowest rank is held out.
        threshold = threshold.max(ranks.iter().min().map_or(0, |rank| rank.saturating_add(1)));
    }
    let mut split = Split { rule: SplitRule::Documents, train: Vec::new(), val: Vec::new() };
    for (document, rank) in corpus.documents.iter().zip(ranks) {
        let part = if rank < threshold { &mut split.val } else { &mut split.train };
        part.push(document.text.as_str());
    }
    split
}

/// A number spread evenly over all documents that depends on the text and the seed alone.
fn content_rank(text: &str, seed: u64) -> u64 {
    let digest = Sha256::digest(text);
    let (head, _) = digest.split_at(8);
    derive_seed(seed, head.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

fn split_tails(corpus: &Corpus, val_fraction: f64) -> Split<'_> {
    let mut split = Split { rule: SplitRule::Tails, train: Vec::new(), val: Vec::new() };
    for document in &corpus.documents {
        let (head, tail) = document.text.split_at(tail_start(&document.text, val_fraction));
        split.train.push(head);
        if !tail.is_empty() {
            split.val.push(tail);
        }
    }
    split
}

/// Where the last `val_fraction` of `text` begins: at a line if one begins there, else at a character.
/// The end of the text if nothing would be left in front of it.
fn tail_start(text: &str, val_fraction: f64) -> usize {
    let wanted = ((text.len() as f64 * (1.0 - val_fraction)) as usize).min(text.len());
    let at = text.ceil_char_boundary(wanted);
    let line_start = text[at..].find('\n').map(|feed| at + feed + 1).filter(|&start| start < text.len());
    match line_start.unwrap_or(at) {
        0 => text.len(),
        start => start,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn corpus(range: std::ops::Range<usize>) -> Corpus {
        Corpus::from_texts(range.map(|at| (format!("{at}"), format!("document {at}\n"))))
    }

    #[test]
    fn about_the_fraction_is_held_out() {
        let corpus = corpus(0..2000);
        for fraction in [0.01, 0.1, 0.5] {
            let split = split(&corpus, fraction, 7);
            let found = split.val.len() as f64 / 2000.0;
            assert!((found - fraction).abs() < 0.03, "{found} instead of {fraction}");
        }
    }

    #[test]
    fn a_document_is_held_out_however_small_the_fraction() {
        for seed in 0..50 {
            let corpus = corpus(0..10);
            let split = split(&corpus, 1e-9, seed);
            assert_eq!((split.rule, split.train.len(), split.val.len()), (SplitRule::Documents, 9, 1));
        }
    }

    #[test]
    fn nothing_is_held_out_at_fraction_0() {
        for documents in [1, 20] {
            let corpus = corpus(0..documents);
            let split = split(&corpus, 0.0, 7);
            assert_eq!((split.train.len(), split.val.len()), (documents, 0));
        }
    }

    #[test]
    fn another_seed_holds_out_other_documents() {
        let corpus = corpus(0..200);
        assert_ne!(split(&corpus, 0.1, 1).val, split(&corpus, 0.1, 2).val);
    }

    #[test]
    fn a_single_document_is_cut_at_a_line() {
        let text: String = (0..100).map(|line| format!("line {line:02}\n")).collect();
        let corpus = Corpus::from_texts([("one", text.as_str())]);
        let split = split(&corpus, 0.1, 7);
        assert_eq!(split.rule, SplitRule::Tails);
        assert_eq!(split.val, [&text[91 * 8..]]);
        assert_eq!(split.train, [&text[..91 * 8]]);
    }

    #[test]
    fn a_single_line_is_cut_at_a_character() {
        let corpus = Corpus::from_texts([("one", "é".repeat(10))]);
        let split = split(&corpus, 0.25, 7);
        assert_eq!((split.train, split.val), (vec!["éééééééé"], vec!["éé"]));
    }

    #[test]
    fn a_dominant_document_is_cut_rather_than_held_out() {
        for seed in 0..100 {
            let mut corpus = corpus(0..20);
            corpus.add("big".to_owned(), "a long line of text\n".repeat(1000));
            let split = split(&corpus, 0.1, seed);
            let val_bytes: usize = split.val.iter().map(|text| text.len()).sum();
            assert!(val_bytes < 4000, "{val_bytes} bytes held out with seed {seed}");
        }
    }

    #[test]
    fn something_is_left_to_train_on_however_large_the_fraction() {
        for seed in 0..50 {
            let corpus = corpus(0..10);
            assert!(!split(&corpus, 0.95, seed).train.is_empty(), "seed {seed}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_lost_or_doubled(
            texts in prop::collection::vec("[a-cé\n]{1,30}", 1..30), fraction in 0.0..0.9, seed: u64
        ) {
            let corpus = Corpus::from_texts(texts.into_iter().map(|text| ("", text)));
            let split = split(&corpus, fraction, seed);
            let (mut train, mut val) = (split.train.into_iter(), split.val.into_iter().peekable());
            for document in &corpus.documents {
                let text = document.text.as_str();
                match split.rule {
                    SplitRule::Documents if val.peek() == Some(&text) => drop(val.next()),
                    SplitRule::Documents => prop_assert_eq!(train.next(), Some(text)),
                    SplitRule::Tails => {
                        let head = train.next().unwrap();
                        let tail = if head.len() < text.len() { val.next().unwrap() } else { "" };
                        prop_assert_eq!(format!("{head}{tail}"), text);
                    }
                }
            }
            prop_assert_eq!((train.next(), val.next()), (None, None));
        }

        #[test]
        fn added_documents_move_no_other(seed: u64, added in 0_usize..100) {
            let (before, after) = (corpus(0..200), corpus(0..200 + added));
            let (before, after) = (split(&before, 0.2, seed), split(&after, 0.2, seed));
            prop_assert_eq!(&after.val[..before.val.len()], before.val.as_slice());
            prop_assert_eq!(&after.train[..before.train.len()], before.train.as_slice());
        }
    }
}
