//! What a prepared folder holds in numbers: documents, tokens, and how long the documents are.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DocumentIndex, Prepared, ShardMeta};

/// Share of the documents that the suggested sequence length holds whole.
const FITTING_SHARE: f64 = 0.95;

/// Sequence lengths that are suggested.
const SUGGESTED_LENGTHS: std::ops::RangeInclusive<u64> = 128..=8192;

/// The numbers of both shards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Of the shard to train on.
    pub train: ShardStatistics,
    /// Of the shard to validate on.
    pub val: ShardStatistics,
    /// How long the documents are, in tokens; both shards together.
    pub lengths: Lengths,
    /// The power of two that holds 19 of 20 documents whole, between 128 and 8192.
    pub suggested_seq_length: u64,
    /// Share of the documents that it holds whole.
    pub fitting_documents: f64,
    /// Share of the tokens in those documents.
    pub fitting_tokens: f64,
}

/// The numbers of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ShardStatistics {
    /// Documents.
    pub documents: u64,
    /// Tokens, those that end documents among them.
    pub tokens: u64,
    /// Length of the texts as UTF-8, in bytes.
    pub text_bytes: u64,
    /// Bytes of text per token; 0 without tokens.
    pub bytes_per_token: f64,
}

/// Lengths of documents in tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: u64,
    /// Half of the documents are not longer.
    pub median: u64,
    /// Their mean.
    pub mean: f64,
    /// Nine of ten are not longer.
    pub p90: u64,
    /// 99 of 100 are not longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// Documents by length, in steps of powers of two, from the shortest to the longest.
    pub histogram: Vec<Bucket>,
}

/// Documents of similar length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// The shortest length.
    pub from: u64,
    /// The first length that is too long.
    pub to: u64,
    /// Documents.
    pub documents: u64,
    /// Their tokens.
    pub tokens: u64,
}

impl Statistics {
    /// Counts the documents of `prepared`; reads the indexes, not the tokens.
    pub fn of(prepared: &Prepared) -> Self {
        let mut counts = BTreeMap::new();
        count_lengths(&prepared.train_documents, &mut counts);
        count_lengths(&prepared.val_documents, &mut counts);
        let fitting = percentile(&counts, FITTING_SHARE).next_power_of_two();
        let suggested = fitting.clamp(*SUGGESTED_LENGTHS.start(), *SUGGESTED_LENGTHS.end());
        let share = |weigh: fn(u64, u64) -> u64| {
            let sum =
                |end: u64| counts.range(..end).map(|(length, count)| weigh(*length, *count)).sum::<u64>();
            sum(suggested + 1) as f64 / sum(u64::MAX).max(1) as f64
        };
        Self {
            train: ShardStatistics::of(&prepared.meta.train),
            val: ShardStatistics::of(&prepared.meta.val),
            suggested_seq_length: suggested,
            fitting_documents: share(|_, count| count),
            fitting_tokens: share(|length, count| length * count),
            lengths: Lengths::of(&counts),
        }
    }
}

impl ShardStatistics {
    fn of(meta: &ShardMeta) -> Self {
        Self {
            documents: meta.documents,
            tokens: meta.tokens,
            text_bytes: meta.text_bytes,
            bytes_per_token: meta.text_bytes as f64 / meta.tokens.max(1) as f64,
        }
    }
}

impl Lengths {
    fn of(counts: &BTreeMap<u64, u64>) -> Self {
        let documents: u64 = counts.values().sum();
        let tokens: u64 = counts.iter().map(|(length, count)| length * count).sum();
        Self {
            min: counts.keys().next().copied().unwrap_or(0),
            median: percentile(counts, 0.5),
            mean: tokens as f64 / documents.max(1) as f64,
            p90: percentile(counts, 0.9),
            p99: percentile(counts, 0.99),
            max: counts.keys().next_back().copied().unwrap_or(0),
            histogram: histogram(counts),
        }
    }
}

/// Memory grows with the number of different lengths, not of documents.
fn count_lengths(documents: &DocumentIndex, counts: &mut BTreeMap<u64, u64>) {
    for document in 0..documents.len() {
        let range = documents.range(document);
        *counts.entry(range.end - range.start).or_default() += 1;
    }
}

/// The smallest length that `share` of the documents do not exceed.
fn percentile(counts: &BTreeMap<u64, u64>, share: f64) -> u64 {
    let wanted = (counts.values().sum::<u64>() as f64 * share).ceil() as u64;
    let mut seen = 0;
    let found = counts.iter().find(|(_, count)| {
        seen += *count;
        seen >= wanted
    });
    found.map_or(0, |(length, _)| *length)
}

fn histogram(counts: &BTreeMap<u64, u64>) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let (Some(min), Some(max)) = (counts.keys().next(), counts.keys().next_back()) else { return buckets };
    let mut from = if *min == 0 { 0 } else { 1 << min.ilog2() };
    while from <= *max {
        let to = (from * 2).max(1);
        let mut bucket = Bucket { from, to, documents: 0, tokens: 0 };
        for (length, count) in counts.range(from..to) {
            bucket.documents += count;
            bucket.tokens += length * count;
        }
        buckets.push(bucket);
        from = to;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lengths: &[u64]) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        lengths.iter().for_each(|length| *counts.entry(*length).or_default() += 1);
        counts
    }

    #[test]
    fn percentiles_are_lengths_that_occur() {
        let lengths: Vec<u64> = (1..=100).collect();
        let found = Lengths::of(&counts(&lengths));
        assert_eq!((found.min, found.median, found.p90, found.p99, found.max), (1, 50, 90, 99, 100));
        assert_eq!(found.mean, 50.5);
        assert_eq!(Lengths::of(&counts(&[7])).p99, 7);
        assert_eq!(Lengths::of(&counts(&[])).histogram, []);
    }

    #[test]
    fn every_document_is_in_one_bucket() {
        let lengths = [3, 4, 7, 8, 100, 100];
        let buckets = histogram(&counts(&lengths));
        let found: Vec<(u64, u64, u64)> =
            buckets.iter().map(|bucket| (bucket.from, bucket.documents, bucket.tokens)).collect();
        assert_eq!(found, [(2, 1, 3), (4, 2, 11), (8, 1, 8), (16, 0, 0), (32, 0, 0), (64, 2, 200)]);
    }
}
