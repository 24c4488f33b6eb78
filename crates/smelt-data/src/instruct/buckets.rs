//! Batches of examples of about equal length, padded to one of a few fixed lengths.
//!
//! A few lengths mean few shapes, which backends compile and cache, and little padding.

use std::sync::Arc;

use super::packed::check_length;
use super::{Examples, RecordKind};
use crate::batch::{
    BatchSource, EvalBatches, EvalLimit, FiniteBatches, Passage, Permutation, Shuffle, TokenBatch,
    check_sizes,
};
use crate::{DataError, derive_seed};

/// The lengths that rows are padded to by default: `seq_length`, its half, and so on, at most four.
pub fn bucket_lengths(seq_length: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = [8, 4, 2, 1].map(|part| seq_length.div_ceil(part)).to_vec();
    lengths.dedup();
    lengths
}

/// Batches of one length each; every example once per epoch, in an order of its own.
///
/// Rows that the last batch of a length lacks are padding. A batch of preferences has `2 * batch_size`
/// rows: the chosen answers, then in the same order the rejected ones.
#[derive(Debug, Clone)]
pub struct BucketedBatches {
    examples: Arc<Examples>,
    batch_size: usize,
    answers: Answers,
    buckets: Vec<Bucket>,
    seed: u64,
    shuffle: Shuffle,
}

/// The examples of one length.
#[derive(Debug, Clone)]
struct Bucket {
    length: usize,
    examples: Vec<usize>,
    /// Batches of the buckets before.
    first_batch: u64,
}

#[derive(Debug, Clone, Copy)]
enum Answers {
    Wanted,
    ChosenThenRejected,
}

impl BucketedBatches {
    /// Batches of `batch_size` examples, padded to one of `lengths`; of preferences, the chosen answers.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] if `batch_size` is 0, or an example is longer than every length.
    pub fn new(
        examples: Arc<Examples>,
        batch_size: usize,
        lengths: &[usize],
        seed: u64,
    ) -> Result<Self, DataError> {
        Self::with_answers(examples, batch_size, lengths, seed, Answers::Wanted)
    }

    /// Batches of `batch_size` preferences with both answers.
    ///
    /// # Errors
    /// As [`BucketedBatches::new`]; [`DataError::NoPreferences`] if the examples are no preferences.
    pub fn of_preferences(
        examples: Arc<Examples>,
        batch_size: usize,
        lengths: &[usize],
        seed: u64,
    ) -> Result<Self, DataError> {
        if examples.kind() != RecordKind::Preference {
            let (path, found) = (examples.path().to_owned(), examples.kind());
            return Err(DataError::NoPreferences { path, found });
        }
        Self::with_answers(examples, batch_size, lengths, seed, Answers::ChosenThenRejected)
    }

    fn with_answers(
        examples: Arc<Examples>,
        batch_size: usize,
        lengths: &[usize],
        seed: u64,
        answers: Answers,
    ) -> Result<Self, DataError> {
        check_sizes(&[("batch_size", batch_size)])?;
        let length_of = |example| match answers {
            Answers::Wanted => examples.passage(example).predictions(),
            Answers::ChosenThenRejected => examples.predictions(example),
        };
        let mut lengths = lengths.to_vec();
        lengths.sort_unstable();
        check_length(lengths.last().copied().unwrap_or(0), (0..examples.len()).map(length_of))?;
        let mut members = vec![Vec::new(); lengths.len()];
        for example in 0..examples.len() {
            let length = length_of(example);
            members[lengths.partition_point(|bucket| *bucket < length)].push(example);
        }
        let mut batches = 0;
        let mut buckets = Vec::new();
        for (length, examples) in lengths.into_iter().zip(members).filter(|(_, found)| !found.is_empty()) {
            let own = examples.len().div_ceil(batch_size) as u64;
            buckets.push(Bucket { length, examples, first_batch: batches });
            batches += own;
        }
        let shuffle = Shuffle::new(batches, seed);
        Ok(Self { examples, batch_size, answers, buckets, seed, shuffle })
    }

    /// The batch of `index`, which depends on the examples, the sizes and the seed and on nothing else.
    pub fn batch(&self, index: u64) -> TokenBatch {
        let (epoch_seed, place) = self.shuffle.at(index);
        self.batch_at(place, epoch_seed)
    }

    /// Validation batches: each example once.
    ///
    /// A limit in tokens is rounded up to whole batches.
    pub fn validation(&self, limit: EvalLimit) -> EvalBatches {
        let limit = match limit {
            EvalLimit::Tokens(tokens) => {
                let total = self.examples.counted_tokens().max(1) as u128;
                let batches = u128::from(self.shuffle.len()) * tokens as u128;
                EvalLimit::Batches(usize::try_from(batches.div_ceil(total)).unwrap_or(usize::MAX))
            }
            other => other,
        };
        EvalBatches::of_batches(Arc::new(self.clone()), limit)
    }

    /// The batch at `place` among those of all buckets, its rows in the order of `epoch_seed`.
    fn batch_at(&self, place: u64, epoch_seed: u64) -> TokenBatch {
        let bucket = self.buckets.partition_point(|bucket| bucket.first_batch <= place) - 1;
        let order_seed = derive_seed(epoch_seed, bucket as u64 + 1);
        let bucket = &self.buckets[bucket];
        let order = Permutation::new(bucket.examples.len() as u64, order_seed);
        let first = (place - bucket.first_batch) as usize * self.batch_size;
        let rows: Vec<Option<usize>> = (first..first + self.batch_size)
            .map(|row| (row < bucket.examples.len()).then(|| bucket.examples[order.at(row as u64) as usize]))
            .collect();
        let wanted = |example| self.examples.passage(example);
        match self.answers {
            Answers::Wanted => {
                let mut batch = TokenBatch::with_capacity(self.batch_size, bucket.length, false);
                push_rows(&mut batch, &rows, wanted);
                batch
            }
            Answers::ChosenThenRejected => {
                let mut batch = TokenBatch::with_capacity(2 * self.batch_size, bucket.length, false);
                push_rows(&mut batch, &rows, wanted);
                push_rows(&mut batch, &rows, |example| self.examples.rejected(example));
                batch
            }
        }
    }
}

fn push_rows(batch: &mut TokenBatch, rows: &[Option<usize>], passage: impl Fn(usize) -> Passage) {
    for row in rows {
        batch.push_row(&row.map(&passage).into_iter().collect::<Vec<_>>());
    }
}

impl BatchSource for BucketedBatches {
    fn batch(&self, index: u64) -> Result<TokenBatch, DataError> {
        Ok(Self::batch(self, index))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.shuffle.len()
    }
}

impl FiniteBatches for BucketedBatches {
    fn len(&self) -> usize {
        self.shuffle.len() as usize
    }

    fn batch(&self, index: usize) -> TokenBatch {
        self.batch_at(index as u64, self.seed)
    }
}
