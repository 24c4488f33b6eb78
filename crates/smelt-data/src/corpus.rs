//! Documents in memory and what was left out of them.

mod jsonl;
mod kind;
mod read;
mod skipped;
mod walk;

use std::collections::HashSet;

use sha2::{Digest, Sha256};

pub use kind::FileKind;
pub use read::{OnBadLine, OnInvalidUtf8, ReadOptions, read_documents};
pub use skipped::{SkipReason, Skipped};

/// One text, taken as a whole: a file or a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it is from: a path, `PATH:LINE`, or a given name.
    pub source: String,
    /// The text; never blank.
    pub text: String,
}

/// Documents without exact duplicates, in the order in which they were found.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// The documents.
    pub documents: Vec<Document>,
    /// What was found and not taken.
    pub skipped: Skipped,
    /// Documents in which invalid UTF-8 was replaced by U+FFFD.
    pub repaired: usize,
    digests: HashSet<[u8; 32]>,
}

impl Corpus {
    /// A corpus of `(source, text)` pairs; blank and repeated texts are skipped and counted.
    pub fn from_texts<S: Into<String>, T: Into<String>>(texts: impl IntoIterator<Item = (S, T)>) -> Self {
        let mut corpus = Self::default();
        for (source, text) in texts {
            corpus.add(source.into(), text.into());
        }
        corpus
    }

    /// Length of all texts, in bytes.
    pub fn text_bytes(&self) -> u64 {
        self.documents.iter().map(|document| document.text.len() as u64).sum()
    }

    /// Takes a document unless it is blank or a copy of an earlier one.
    pub(crate) fn add(&mut self, source: String, text: String) {
        if text.trim().is_empty() {
            self.skipped.add(SkipReason::Empty, source);
        } else if self.digests.insert(Sha256::digest(&text).into()) {
            self.documents.push(Document { source, text });
        } else {
            self.skipped.add(SkipReason::Duplicate, source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_repeated_texts_are_skipped_and_counted() {
        let corpus = Corpus::from_texts([("a", "one"), ("b", " \n"), ("c", "two"), ("d", "one"), ("e", "")]);
        let sources: Vec<&str> = corpus.documents.iter().map(|document| document.source.as_str()).collect();
        assert_eq!(sources, ["a", "c"]);
        assert_eq!(corpus.text_bytes(), 6);
        assert_eq!(corpus.skipped.count(SkipReason::Empty), 2);
        assert_eq!(corpus.skipped.count(SkipReason::Duplicate), 1);
        assert_eq!(corpus.skipped.examples(SkipReason::Duplicate), ["d"]);
    }
}
