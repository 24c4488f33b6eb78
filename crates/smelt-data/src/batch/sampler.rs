//! Training batches of equal shape, out of any source of rows.

use std::fmt;
use std::sync::Arc;

use super::{RowSource, TokenBatch, Windows, check_sizes};
use crate::{DataError, TokenShard};

/// Batches by number, without end: what a trainer takes, whatever they are made of.
///
/// A batch depends on the source and its number and on nothing else.
pub trait BatchSource: fmt::Debug + Send + Sync {
    /// The batch of `index`.
    ///
    /// # Errors
    /// Whatever keeps the source from making it.
    fn batch(&self, index: u64) -> Result<TokenBatch, DataError>;

    /// Batches in which everything is seen once; the last one may hold what comes after.
    fn batches_per_epoch(&self) -> u64;
}

/// Puts the rows of a source together, `batch_size` at a time; epochs follow each other within a batch.
#[derive(Debug, Clone)]
pub struct Sampler {
    rows: Arc<dyn RowSource>,
    batch_size: usize,
}

impl Sampler {
    /// Batches `[batch_size, seq_length]` of the [`Windows`] of `shard`.
    ///
    /// # Errors
    /// [`DataError::TooFewTokens`] if the shard does not hold one window; [`DataError::InvalidOption`] if
    /// a size is 0.
    pub fn new(
        shard: &TokenShard,
        batch_size: usize,
        seq_length: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        Self::of_rows(Arc::new(Windows::new(shard, seq_length, seed)?), batch_size)
    }

    /// Batches of `batch_size` rows of `rows`.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] if `batch_size` is 0.
    pub fn of_rows(rows: Arc<dyn RowSource>, batch_size: usize) -> Result<Self, DataError> {
        check_sizes(&[("batch_size", batch_size)])?;
        Ok(Self { rows, batch_size })
    }

    /// The batch of `index`, which depends on the rows and `batch_size` and on nothing else.
    pub fn batch(&self, index: u64) -> TokenBatch {
        let separates = self.rows.separates_passages();
        let mut batch = TokenBatch::with_capacity(self.batch_size, self.rows.seq_length(), separates);
        let first = index.wrapping_mul(self.batch_size as u64);
        for row in 0..self.batch_size as u64 {
            batch.push_row(&self.rows.row(first.wrapping_add(row)));
        }
        batch
    }
}

impl BatchSource for Sampler {
    fn batch(&self, index: u64) -> Result<TokenBatch, DataError> {
        Ok(Self::batch(self, index))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.rows.rows_per_epoch().div_ceil(self.batch_size as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::counting_shard;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn rows_are_the_windows_of_single_batches(batch_size in 1_usize..9, index in 0_u64..50, seed: u64) {
            let shard = counting_shard(101);
            let (single, rows) =
                (Sampler::new(&shard, 1, 5, seed).unwrap(), Sampler::new(&shard, batch_size, 5, seed).unwrap());
            let first = index * batch_size as u64;
            let expected: Vec<u32> =
                (0..batch_size as u64).flat_map(|row| single.batch(first + row).input_ids).collect();
            let batch = rows.batch(index);
            prop_assert_eq!(&batch.input_ids, &expected);
            prop_assert_eq!(batch, Sampler::new(&shard, batch_size, 5, seed).unwrap().batch(index));
        }
    }

    #[test]
    fn a_shard_of_one_window_repeats_it() {
        let sampler = Sampler::new(&counting_shard(11), 2, 10, 3).unwrap();
        assert_eq!(sampler.batches_per_epoch(), 1);
        assert_eq!(sampler.batch(7).input_ids, [(0..10).collect::<Vec<_>>(), (0..10).collect()].concat());
    }

    #[test]
    fn sizes_of_0_are_refused() {
        for (batch_size, seq_length) in [(0, 4), (2, 0)] {
            let error = Sampler::new(&counting_shard(10), batch_size, seq_length, 3).unwrap_err();
            assert!(error.to_string().ends_with("is 0, expected at least 1"), "{error}");
        }
    }
}
