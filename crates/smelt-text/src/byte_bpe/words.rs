//! Counting the words of a corpus of any size.
//!
//! Texts go through in batches, each counted on all cores; the batches depend on the texts alone, so
//! the counts do not depend on the number of threads. When too many different words have come up, the
//! rarest are forgotten between two batches.

use ahash::AHashMap;
use rayon::prelude::*;

use crate::pieces::byte_level_pieces;
use crate::split::Split;

/// Different words kept, at most, once a batch is through. Some 100 bytes each, merging included.
const MOST_WORDS: usize = 2_000_000;

/// A longer word is counted in parts: what is longer is no word but encoded data.
const LONGEST_WORD: usize = 256;

/// From here on, one text is worth several tasks.
const LONG_TEXT_BYTES: usize = 1 << 20;

type Counts = AHashMap<Box<[u8]>, u64>;

/// How often each word occurs.
#[derive(Debug)]
pub struct WordCounts {
    counts: Counts,
    most_words: usize,
}

impl WordCounts {
    /// No words yet.
    pub fn new() -> Self {
        Self { counts: Counts::default(), most_words: MOST_WORDS }
    }

    /// Counts a batch of texts.
    pub fn add<S: AsRef<str> + Send>(&mut self, texts: Vec<S>) {
        let batch = texts.into_par_iter().fold(Counts::default, |counts, text| {
            let text = text.as_ref();
            if text.len() < LONG_TEXT_BYTES {
                count(counts, text)
            } else {
                add(count_in_pieces(text), counts)
            }
        });
        let batch = batch.reduce(Counts::default, add);
        self.counts = add(std::mem::take(&mut self.counts), batch);
        self.forget_the_rarest();
    }

    /// How many different words are known.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// The words with their counts, in the order of their bytes.
    pub fn into_sorted(self) -> Vec<(Box<[u8]>, u64)> {
        let mut words: Vec<_> = self.counts.into_iter().collect();
        words.par_sort_unstable();
        words
    }

    /// Above the limit, drops words of the lowest counts until at most half of it is left.
    fn forget_the_rarest(&mut self) {
        if self.counts.len() <= self.most_words {
            return;
        }
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let last_dropped = counts.len() - self.most_words / 2 - 1;
        let (_, &mut threshold, _) = counts.select_nth_unstable(last_dropped);
        // Words of the threshold's own count go too: which of them to keep would be arbitrary.
        self.counts.retain(|_, count| *count > threshold);
        self.counts.shrink_to_fit();
    }
}

fn count_in_pieces(text: &str) -> Counts {
    let pieces: Vec<&str> = byte_level_pieces(text).collect();
    pieces.into_par_iter().fold(Counts::default, count).reduce(Counts::default, add)
}

fn count(mut counts: Counts, text: &str) -> Counts {
    for part in Split::Gpt2.words(text).flat_map(|word| word.as_bytes().chunks(LONGEST_WORD)) {
        match counts.get_mut(part) {
            Some(count) => *count += 1,
            None => {
                counts.insert(part.into(), 1);
            }
        }
    }
    counts
}

/// The sum, made in the larger of the two.
fn add(one: Counts, other: Counts) -> Counts {
    let (mut sum, smaller) = if one.len() < other.len() { (other, one) } else { (one, other) };
    for (word, count) in smaller {
        *sum.entry(word).or_default() += count;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_words_are_forgotten_first() {
        let mut words = WordCounts { most_words: 4, ..WordCounts::new() };
        words.add(vec!["a b c d", "a b c", "a b", "a"]);
        words.add(vec![" e"]);
        assert_eq!(words.into_sorted(), [(Box::from(*b" b"), 3), (Box::from(*b"a"), 4)]);
    }

    #[test]
    fn a_long_word_is_counted_in_parts() {
        let mut words = WordCounts::new();
        words.add(vec!["x".repeat(2 * LONGEST_WORD + 3)]);
        let counts: Vec<(usize, u64)> =
            words.into_sorted().iter().map(|(word, count)| (word.len(), *count)).collect();
        assert_eq!(counts, [(3, 1), (LONGEST_WORD, 2)]);
    }
}
