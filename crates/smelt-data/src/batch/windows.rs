//! Rows as windows of a shard, wherever documents begin and end.

use super::{Passage, RowSource, Shuffle, check_sizes};
use crate::{DataError, TokenShard, derive_seed};

/// Every window of an epoch once, in an order of its own.
///
/// An epoch cuts the shard into windows of `seq_length + 1` tokens that share one token with their
/// neighbours, from a start that differs per epoch, so that documents do not always break at the same
/// places.
#[derive(Debug, Clone)]
pub struct Windows {
    shard: TokenShard,
    seq_length: usize,
    shuffle: Shuffle,
    phases: u64,
}

impl Windows {
    /// The windows of `shard` in the order of `seed`.
    ///
    /// # Errors
    /// [`DataError::TooFewTokens`] if the shard does not hold one window; [`DataError::InvalidOption`] if
    /// `seq_length` is 0.
    pub fn new(shard: &TokenShard, seq_length: usize, seed: u64) -> Result<Self, DataError> {
        check_sizes(&[("seq_length", seq_length)])?;
        let needed = seq_length.saturating_add(1);
        if shard.len() < needed {
            let path = shard.path().to_owned();
            return Err(DataError::TooFewTokens { path, found: shard.len(), needed, seq_length });
        }
        // With `seq_length` possible starts, each leaves room for this many windows.
        let targets = shard.len() - 1;
        let windows = ((targets - (seq_length - 1)) / seq_length).max(1);
        let phases = seq_length.min(targets - windows * seq_length + 1) as u64;
        Ok(Self { shard: shard.clone(), seq_length, shuffle: Shuffle::new(windows as u64, seed), phases })
    }
}

impl RowSource for Windows {
    fn seq_length(&self) -> usize {
        self.seq_length
    }

    fn rows_per_epoch(&self) -> u64 {
        self.shuffle.len()
    }

    fn separates_passages(&self) -> bool {
        false
    }

    fn row(&self, index: u64) -> Vec<Passage> {
        let (epoch_seed, window) = self.shuffle.at(index);
        let start = derive_seed(epoch_seed, 0) % self.phases + window * self.seq_length as u64;
        let start = usize::try_from(start).expect("windows lie within the shard, which is mapped");
        vec![Passage { tokens: self.shard.get(start..start + self.seq_length + 1), counted: None }]
    }
}

/// The windows of a shard in order, the last one perhaps shorter: every prediction once.
#[derive(Debug, Clone)]
pub struct Tiles {
    shard: TokenShard,
    seq_length: usize,
}

impl Tiles {
    /// # Panics
    /// If `seq_length` is 0.
    pub fn new(shard: &TokenShard, seq_length: usize) -> Self {
        assert!(seq_length > 0, "windows of no token");
        Self { shard: shard.clone(), seq_length }
    }
}

impl RowSource for Tiles {
    fn seq_length(&self) -> usize {
        self.seq_length
    }

    fn rows_per_epoch(&self) -> u64 {
        self.shard.len().saturating_sub(1).div_ceil(self.seq_length) as u64
    }

    fn separates_passages(&self) -> bool {
        false
    }

    fn row(&self, index: u64) -> Vec<Passage> {
        let tile = index % self.rows_per_epoch();
        let start = tile as usize * self.seq_length;
        let end = (start + self.seq_length + 1).min(self.shard.len());
        vec![Passage { tokens: self.shard.get(start..end), counted: None }]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::counting_shard;

    fn first_token(windows: &Windows, row: u64) -> u32 {
        windows.row(row)[0].tokens[0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_epoch_covers_every_window_exactly_once(
            tokens in 2_usize..2000, seq_length in 1_usize..40, seed: u64, epoch in 0_u64..5
        ) {
            prop_assume!(tokens > seq_length);
            let windows = Windows::new(&counting_shard(tokens), seq_length, seed).unwrap();
            let count = windows.rows_per_epoch();
            let length = seq_length as u32;
            let mut starts = Vec::new();
            for slot in 0..count {
                let row = windows.row(epoch * count + slot);
                let start = row[0].tokens[0];
                prop_assert!(row.len() == 1 && row[0].tokens.iter().copied().eq(start..=start + length));
                starts.push(start);
            }
            starts.sort_unstable();
            // Consecutive windows, so that no target is left out or counted twice between first and last.
            prop_assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == length));
            let left_out = tokens - 1 - count as usize * seq_length;
            prop_assert!(left_out < 2 * seq_length, "{left_out} targets left out");
        }
    }

    #[test]
    fn epochs_differ_in_order_and_start() {
        let windows = Windows::new(&counting_shard(1000), 10, 3).unwrap();
        let count = windows.rows_per_epoch();
        let starts = |epoch: u64| -> Vec<u32> {
            (0..count).map(|slot| first_token(&windows, epoch * count + slot)).collect()
        };
        let epochs: Vec<Vec<u32>> = (0..20).map(starts).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]));
        let mut phases: Vec<u32> = epochs.iter().map(|starts| starts[0] % 10).collect();
        phases.sort_unstable();
        phases.dedup();
        assert!(phases.len() > 5, "phases {phases:?}");
    }

    #[test]
    fn another_seed_gives_another_order() {
        let shard = counting_shard(1000);
        let order = |seed| {
            let windows = Windows::new(&shard, 10, seed).unwrap();
            (0..20).map(|row| first_token(&windows, row)).collect::<Vec<_>>()
        };
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn a_shard_without_a_window_is_refused() {
        let message = Windows::new(&counting_shard(10), 10, 3).unwrap_err().to_string();
        assert!(
            message.ends_with("has 10 tokens, expected at least 11 (`seq_length` 10 and one more)"),
            "{message}"
        );
    }
}
