//! Learning merges from counted words.
//!
//! Each step joins the pair of neighbours that is seen most often, the one of the lower ids among
//! equals, everywhere at once (Sennrich et al. 2016). Counts are 64 bits wide: a pair of letters comes
//! up more than 2^31 times in a large corpus.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{ControlFlow, Range};

use ahash::AHashMap;

/// Two neighbours, by id.
pub type Pair = (u32, u32);

/// Words as sequences of ids, one after the other.
#[derive(Debug)]
pub struct Words {
    symbols: Vec<u32>,
    /// Where in `symbols` each word is. Merging shortens it in place.
    places: Vec<Range<usize>>,
    counts: Vec<u64>,
}

impl Words {
    /// `words` with the ids of their bytes.
    pub fn new(words: &[(Box<[u8]>, u64)], byte_ids: &[u32; 256]) -> Self {
        let mut symbols = Vec::with_capacity(words.iter().map(|(word, _)| word.len()).sum());
        let mut places = Vec::with_capacity(words.len());
        for (word, _) in words {
            let start = symbols.len();
            symbols.extend(word.iter().map(|&byte| byte_ids[usize::from(byte)]));
            places.push(start..symbols.len());
        }
        Self { symbols, places, counts: words.iter().map(|(_, count)| *count).collect() }
    }

    /// Joins `pair` to `id` wherever it stands in `word`; tells each pair that came or went, with its
    /// change in count. `pair` itself is not told: it is gone.
    fn merge(&mut self, word: usize, pair: Pair, id: u32, mut changed: impl FnMut(Pair, i64)) {
        let count = i64::try_from(self.counts[word]).unwrap_or(i64::MAX);
        let place = self.places[word].clone();
        let symbols = &mut self.symbols[place.clone()];
        let (mut read, mut written) = (0, 0_usize);
        while read < symbols.len() {
            let found = read + 1 < symbols.len() && (symbols[read], symbols[read + 1]) == pair;
            if found {
                if let Some(before) = written.checked_sub(1).map(|at| symbols[at]) {
                    changed((before, pair.0), -count);
                    changed((before, id), count);
                }
                if let Some(&after) = symbols.get(read + 2) {
                    changed((pair.1, after), -count);
                    changed((id, after), count);
                }
            }
            symbols[written] = if found { id } else { symbols[read] };
            written += 1;
            read += if found { 2 } else { 1 };
        }
        self.places[word].end = place.start + written;
    }
}

/// A pair's count and the words it may stand in.
#[derive(Debug, Default)]
struct Occurrences {
    count: i64,
    words: Vec<u32>,
}

impl Occurrences {
    fn add(&mut self, word: u32, change: i64) {
        self.count += change;
        if change > 0 && self.words.last() != Some(&word) {
            self.words.push(word);
        }
    }
}

/// Learns merges until `next` breaks off or no pair is seen `min_frequency` times.
///
/// `next` is given each pair in turn and answers with the id of the joined token.
pub fn learn(mut words: Words, min_frequency: u64, mut next: impl FnMut(Pair) -> ControlFlow<(), u32>) {
    let least = i64::try_from(min_frequency.max(1)).unwrap_or(i64::MAX);
    let mut pairs = count_pairs(&words);
    let mut queue: BinaryHeap<(i64, Reverse<Pair>)> =
        pairs.iter().map(|(&pair, occurrences)| (occurrences.count, Reverse(pair))).collect();

    while let Some((count, Reverse(pair))) = queue.pop() {
        let current = pairs.get(&pair).map_or(0, |occurrences| occurrences.count);
        if current != count {
            // The queue was not told of what other merges took away.
            if current >= least {
                queue.push((current, Reverse(pair)));
            }
            continue;
        }
        if count < least {
            return;
        }
        let ControlFlow::Continue(id) = next(pair) else { return };
        for changed in merge_everywhere(&mut words, &mut pairs, pair, id) {
            let count = pairs[&changed].count;
            if count >= least {
                queue.push((count, Reverse(changed)));
            }
        }
    }
}

fn count_pairs(words: &Words) -> AHashMap<Pair, Occurrences> {
    let mut pairs: AHashMap<Pair, Occurrences> = AHashMap::default();
    for (word, (place, &count)) in (0..).zip(words.places.iter().zip(&words.counts)) {
        for pair in words.symbols[place.clone()].windows(2) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            pairs.entry((pair[0], pair[1])).or_default().add(word, count);
        }
    }
    pairs
}

/// Joins `pair` in all words; returns the pairs that came up.
fn merge_everywhere(
    words: &mut Words,
    pairs: &mut AHashMap<Pair, Occurrences>,
    pair: Pair,
    id: u32,
) -> Vec<Pair> {
    let mut places = pairs.remove(&pair).unwrap_or_default().words;
    places.sort_unstable();
    places.dedup();
    let mut fresh = Vec::new();
    for word in places {
        words.merge(word as usize, pair, id, |changed, change| {
            if changed == pair {
                return;
            }
            if change > 0 {
                fresh.push(changed);
            }
            pairs.entry(changed).or_default().add(word, change);
        });
    }
    fresh.sort_unstable();
    fresh.dedup();
    fresh
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Counts every pair anew before every step.
    fn learned_naively(mut words: Vec<(Vec<u32>, i64)>, steps: u32) -> Vec<Pair> {
        let mut merges = Vec::new();
        for id in 1000..1000 + steps {
            let mut counts: std::collections::BTreeMap<Pair, i64> = Default::default();
            for (word, count) in &words {
                for pair in word.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += count;
                }
            }
            let best = counts.into_iter().max_by_key(|&(pair, count)| (count, Reverse(pair)));
            let Some((pair, _)) = best.filter(|(_, count)| *count >= 2) else { break };
            merges.push(pair);
            for (word, _) in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if (word[at], word[at + 1]) == pair {
                        word.splice(at..at + 2, [id]);
                    }
                    at += 1;
                }
            }
        }
        merges
    }

    proptest! {
        #[test]
        fn merges_are_those_of_counting_anew(
            words in prop::collection::vec(("[ab]{1,12}|[a-d]{1,8}", 1_u64..5), 1..20), steps in 0_u32..30
        ) {
            let counted: Vec<(Box<[u8]>, u64)> =
                words.iter().map(|(word, count)| (word.as_bytes().into(), *count)).collect();
            let byte_ids = std::array::from_fn(|byte| byte as u32);
            let mut merges = Vec::new();
            learn(Words::new(&counted, &byte_ids), 2, |pair| {
                if merges.len() == steps as usize {
                    return ControlFlow::Break(());
                }
                merges.push(pair);
                ControlFlow::Continue(999 + merges.len() as u32)
            });
            let naive = words
                .iter()
                .map(|(word, count)| (word.bytes().map(u32::from).collect(), i64::try_from(*count).unwrap()))
                .collect();
            prop_assert_eq!(merges, learned_naively(naive, steps));
        }
    }
}
