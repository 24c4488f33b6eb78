//! Which text is trained on and which is held out.
//!
//! By document, decided by the document's own content and the seed: files added later move no other.
//! A corpus of a few documents, or one dominated by a held-out document, has the end of every document
//! held out instead.

use serde::{Deserialize, Serialize};

use crate::derive_seed;

/// With fewer documents than this, one of them is too large a part to hold out.
const MIN_DOCUMENTS: u64 = 10;

/// How a corpus is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitRule {
    /// Whole documents are held out.
    Documents,
    /// The end of every document is held out.
    Tails,
}

/// What decides how a corpus is split, gathered document by document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitTally {
    documents: u64,
    train_bytes: u64,
    val_bytes: u64,
    /// The lowest rank, and the length of its document.
    lowest: Option<(u64, u64)>,
}

impl SplitTally {
    /// Counts a document of this rank and length.
    pub fn add(&mut self, rank: u64, bytes: u64, val_fraction: f64) {
        self.documents += 1;
        if rank < threshold(val_fraction) {
            self.val_bytes += bytes;
        } else {
            self.train_bytes += bytes;
        }
        if self.lowest.is_none_or(|(lowest, _)| rank < lowest) {
            self.lowest = Some((rank, bytes));
        }
    }

    /// Counts the documents of a part of the corpus.
    pub fn extend(&mut self, part: &Self) {
        self.documents += part.documents;
        self.train_bytes += part.train_bytes;
        self.val_bytes += part.val_bytes;
        self.lowest = match (self.lowest, part.lowest) {
            (Some(one), Some(other)) => Some(if other.0 < one.0 { other } else { one }),
            (one, other) => one.or(other),
        };
    }
}

/// The place of a document among all that could be held out: a number spread evenly over them that
/// depends on the text and the seed alone. `digest` is the beginning of the text's SHA-256.
pub fn content_rank(digest: &[u8; 16], seed: u64) -> u64 {
    let (head, _) = digest.split_at(8);
    derive_seed(seed, head.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// Documents of lower rank are held out. As a cast of a float this saturates: the fraction is below 1,
/// the product below 2^64.
fn threshold(val_fraction: f64) -> u64 {
    (val_fraction * 2.0_f64.powi(64)) as u64
}

/// How one corpus is split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    pub rule: SplitRule,
    threshold: u64,
    val_fraction: f64,
}

impl Split {
    /// Splits the corpus that was counted; `val_fraction` 0 holds nothing out.
    pub fn decide(tally: &SplitTally, val_fraction: f64) -> Self {
        let mut split = Self { rule: SplitRule::Documents, threshold: threshold(val_fraction), val_fraction };
        let Some((lowest, bytes)) = tally.lowest.filter(|_| val_fraction > 0.0) else { return split };
        let (mut train_bytes, mut val_bytes) = (tally.train_bytes, tally.val_bytes);
        if lowest >= split.threshold {
            // At least the document of the lowest rank is held out.
            split.threshold = lowest.saturating_add(1);
            (train_bytes, val_bytes) = (train_bytes - bytes, bytes);
        }
        let is_lopsided = train_bytes == 0 || val_fraction < 0.5 && val_bytes > train_bytes;
        if is_lopsided || tally.documents < MIN_DOCUMENTS {
            split.rule = SplitRule::Tails;
        }
        split
    }

    /// What of a document is trained on, and what is held out.
    pub fn cut<'t>(&self, rank: u64, text: &'t str) -> (&'t str, &'t str) {
        match self.rule {
            SplitRule::Documents if rank < self.threshold => ("", text),
            SplitRule::Documents => (text, ""),
            SplitRule::Tails => text.split_at(tail_start(text, self.val_fraction)),
        }
    }
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
    use sha2::{Digest, Sha256};

    use super::*;

    fn rank(text: &str, seed: u64) -> u64 {
        let digest: [u8; 32] = Sha256::digest(text).into();
        content_rank(digest[..16].try_into().unwrap(), seed)
    }

    /// The rule, and the parts that are not empty.
    fn split(texts: &[String], fraction: f64, seed: u64) -> (SplitRule, Vec<&str>, Vec<&str>) {
        let mut tally = SplitTally::default();
        for part in texts.chunks(7) {
            let mut counted = SplitTally::default();
            part.iter().for_each(|text| counted.add(rank(text, seed), text.len() as u64, fraction));
            tally.extend(&counted);
        }
        let split = Split::decide(&tally, fraction);
        let (mut train, mut val): (Vec<&str>, Vec<&str>) =
            texts.iter().map(|text| split.cut(rank(text, seed), text)).unzip();
        train.retain(|text| !text.is_empty());
        val.retain(|text| !text.is_empty());
        (split.rule, train, val)
    }

    fn corpus(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|at| format!("document {at}\n")).collect()
    }

    #[test]
    fn about_the_fraction_is_held_out() {
        let corpus = corpus(0..2000);
        for fraction in [0.01, 0.1, 0.5] {
            let found = split(&corpus, fraction, 7).2.len() as f64 / 2000.0;
            assert!((found - fraction).abs() < 0.03, "{found} instead of {fraction}");
        }
    }

    #[test]
    fn a_document_is_held_out_however_small_the_fraction() {
        for seed in 0..50 {
            let corpus = corpus(0..10);
            let (rule, train, val) = split(&corpus, 1e-9, seed);
            assert_eq!((rule, train.len(), val.len()), (SplitRule::Documents, 9, 1));
        }
    }

    #[test]
    fn nothing_is_held_out_at_fraction_0() {
        for documents in [1, 20] {
            let corpus = corpus(0..documents);
            let (_, train, val) = split(&corpus, 0.0, 7);
            assert_eq!((train.len(), val.len()), (documents, 0));
        }
    }

    #[test]
    fn another_seed_holds_out_other_documents() {
        let corpus = corpus(0..200);
        assert_ne!(split(&corpus, 0.1, 1).2, split(&corpus, 0.1, 2).2);
    }

    #[test]
    fn a_single_document_is_cut_at_a_line() {
        let text: String = (0..100).map(|line| format!("line {line:02}\n")).collect();
        let expected = text.clone();
        let corpus = [text];
        let (rule, train, val) = split(&corpus, 0.1, 7);
        assert_eq!(rule, SplitRule::Tails);
        assert_eq!((train, val), (vec![&expected[..91 * 8]], vec![&expected[91 * 8..]]));
    }

    #[test]
    fn a_single_line_is_cut_at_a_character() {
        let corpus = ["é".repeat(10)];
        let (_, train, val) = split(&corpus, 0.25, 7);
        assert_eq!((train, val), (vec!["éééééééé"], vec!["éé"]));
    }

    #[test]
    fn a_dominant_document_is_cut_rather_than_held_out() {
        for seed in 0..100 {
            let mut corpus = corpus(0..20);
            corpus.push("a long line of text\n".repeat(1000));
            let val_bytes: usize = split(&corpus, 0.1, seed).2.iter().map(|text| text.len()).sum();
            assert!(val_bytes < 4000, "{val_bytes} bytes held out with seed {seed}");
        }
    }

    #[test]
    fn something_is_left_to_train_on_however_large_the_fraction() {
        for seed in 0..50 {
            let corpus = corpus(0..10);
            assert!(!split(&corpus, 0.95, seed).1.is_empty(), "seed {seed}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_lost_or_doubled(
            texts in prop::collection::vec("[a-cé\n]{1,30}", 1..30), fraction in 0.0..0.9, seed: u64
        ) {
            let (rule, train, val) = split(&texts, fraction, seed);
            let (mut train, mut val) = (train.into_iter().peekable(), val.into_iter().peekable());
            for text in &texts {
                let (head, tail) = match rule {
                    SplitRule::Documents if val.peek() == Some(&text.as_str()) => ("", val.next().unwrap()),
                    SplitRule::Documents => (train.next().unwrap(), ""),
                    SplitRule::Tails => {
                        let head = train.next().unwrap();
                        (head, if head.len() < text.len() { val.next().unwrap() } else { "" })
                    }
                };
                prop_assert_eq!(&format!("{head}{tail}"), text);
            }
            prop_assert_eq!((train.next(), val.next()), (None, None));
        }

        #[test]
        fn added_documents_move_no_other(seed: u64, added in 0_usize..100) {
            let (before, after) = (corpus(0..200), corpus(0..200 + added));
            let (before, after) = (split(&before, 0.2, seed), split(&after, 0.2, seed));
            prop_assert_eq!(&after.2[..before.2.len()], before.2.as_slice());
            prop_assert_eq!(&after.1[..before.1.len()], before.1.as_slice());
        }
    }
}
