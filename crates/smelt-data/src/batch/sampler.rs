//! Training batches: every window of an epoch once, in an order of its own.
//!
//! An epoch cuts the shard into windows of `seq_length + 1` tokens that share one token with their
//! neighbours, from a start that differs per epoch, so that documents do not always break at the same
//! places. Documents follow each other within a window; packing by document is not done here.

use super::{Permutation, TokenBatch};
use crate::{DataError, TokenShard, derive_seed};

/// Draws batches from a shard; nothing in it changes from batch to batch.
#[derive(Debug, Clone)]
pub struct Sampler {
    shard: TokenShard,
    batch_size: usize,
    seq_length: usize,
    seed: u64,
    windows_per_epoch: u64,
    phases: u64,
}

impl Sampler {
    /// A sampler of batches `[batch_size, seq_length]`.
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
        for (name, value) in [("batch_size", batch_size), ("seq_length", seq_length)] {
            if value == 0 {
                return Err(DataError::InvalidOption { name, value: "0".to_owned(), expected: "at least 1" });
            }
        }
        let needed = seq_length.saturating_add(1);
        if shard.len() < needed {
            let path = shard.path().to_owned();
            return Err(DataError::TooFewTokens { path, found: shard.len(), needed, seq_length });
        }
        // With `seq_length` possible starts, each leaves room for this many windows.
        let targets = shard.len() - 1;
        let windows = ((targets - (seq_length - 1)) / seq_length).max(1);
        let phases = seq_length.min(targets - windows * seq_length + 1);
        Ok(Self {
            shard: shard.clone(),
            batch_size,
            seq_length,
            seed,
            windows_per_epoch: windows as u64,
            phases: phases as u64,
        })
    }

    /// Windows after which every part of the shard was seen once.
    pub fn windows_per_epoch(&self) -> u64 {
        self.windows_per_epoch
    }

    /// The epoch, counted from 0, in which the batch of `index` begins.
    pub fn epoch(&self, index: u64) -> u64 {
        self.first_window(index) / self.windows_per_epoch
    }

    /// The batch of `index`, which depends on the shard, the sizes and the seed and nothing else.
    pub fn batch(&self, index: u64) -> TokenBatch {
        let mut batch = TokenBatch::with_capacity(self.batch_size, self.seq_length);
        let first = self.first_window(index);
        for row in 0..self.batch_size as u64 {
            let start = self.window_start(first.wrapping_add(row));
            batch.push_row(&self.shard.get(start..start + self.seq_length + 1));
        }
        batch
    }

    fn first_window(&self, index: u64) -> u64 {
        index.wrapping_mul(self.batch_size as u64)
    }

    /// The first token of a window, windows being numbered through all epochs.
    fn window_start(&self, window: u64) -> usize {
        let (epoch, slot) = (window / self.windows_per_epoch, window % self.windows_per_epoch);
        let epoch_seed = derive_seed(self.seed, epoch);
        let phase = derive_seed(epoch_seed, 0) % self.phases;
        let order = Permutation::new(self.windows_per_epoch, epoch_seed);
        let start = phase + order.at(slot) * self.seq_length as u64;
        usize::try_from(start).expect("windows lie within the shard, which is in memory")
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
        fn an_epoch_covers_every_window_exactly_once(
            tokens in 2_usize..2000, seq_length in 1_usize..40, seed: u64, epoch in 0_u64..5
        ) {
            prop_assume!(tokens > seq_length);
            let shard = counting_shard(tokens);
            let sampler = Sampler::new(&shard, 1, seq_length, seed).unwrap();
            let windows = sampler.windows_per_epoch();
            let mut starts: Vec<u32> = (0..windows)
                .map(|slot| {
                    let batch = sampler.batch(epoch * windows + slot);
                    let start = batch.input_ids[0];
                    let length = seq_length as u32;
                    assert!(batch.input_ids.iter().copied().eq(start..start + length));
                    assert!(batch.targets.iter().copied().eq(start + 1..start + length + 1));
                    assert_eq!(batch.counted_tokens(), seq_length);
                    start
                })
                .collect();
            starts.sort_unstable();
            // Consecutive windows, so that no target is left out or counted twice between first and last.
            prop_assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == seq_length as u32));
            let left_out = tokens - 1 - windows as usize * seq_length;
            prop_assert!(left_out < 2 * seq_length, "{left_out} targets left out");
        }

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
    fn epochs_differ_in_order_and_start() {
        let shard = counting_shard(1000);
        let sampler = Sampler::new(&shard, 1, 10, 3).unwrap();
        let windows = sampler.windows_per_epoch();
        let starts = |epoch: u64| -> Vec<u32> {
            (0..windows).map(|slot| sampler.batch(epoch * windows + slot).input_ids[0]).collect()
        };
        let epochs: Vec<Vec<u32>> = (0..20).map(starts).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]));
        let mut phases: Vec<u32> = epochs.iter().map(|starts| starts[0] % 10).collect();
        phases.sort_unstable();
        phases.dedup();
        assert!(phases.len() > 5, "phases {phases:?}");
    }

    #[test]
    fn another_seed_gives_other_batches() {
        let shard = counting_shard(1000);
        let batch = |seed| Sampler::new(&shard, 4, 10, seed).unwrap().batch(0);
        assert_ne!(batch(1), batch(2));
    }

    #[test]
    fn a_shard_of_one_window_repeats_it() {
        let shard = counting_shard(11);
        let sampler = Sampler::new(&shard, 2, 10, 3).unwrap();
        assert_eq!(sampler.windows_per_epoch(), 1);
        assert_eq!(sampler.batch(7).input_ids, [(0..10).collect::<Vec<_>>(), (0..10).collect()].concat());
        assert_eq!(sampler.epoch(7), 14);
    }

    #[test]
    fn a_shard_without_a_window_is_refused() {
        let shard = counting_shard(10);
        let error = Sampler::new(&shard, 2, 10, 3).unwrap_err();
        let message = error.to_string();
        assert!(
            message.ends_with("has 10 tokens, expected at least 11 (`seq_length` 10 and one more)"),
            "{message}"
        );
    }

    #[test]
    fn sizes_of_0_are_refused() {
        let shard = counting_shard(10);
        for (batch_size, seq_length) in [(0, 4), (2, 0)] {
            let error = Sampler::new(&shard, batch_size, seq_length, 3).unwrap_err();
            assert!(error.to_string().ends_with("is 0, expected at least 1"), "{error}");
        }
    }
}
