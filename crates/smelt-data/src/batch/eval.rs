//! Validation batches: the windows of a shard in order, every prediction counted once.

use super::TokenBatch;
use crate::TokenShard;

/// Iterates over the non-overlapping windows of a shard, `[batch_size, seq_length]` each time.
///
/// The last window and the last batch are filled up with padding that `loss_mask` leaves out, so that
/// every batch has one shape. A shard of fewer than two tokens gives none.
#[derive(Debug, Clone)]
pub struct EvalBatches {
    shard: TokenShard,
    batch_size: usize,
    seq_length: usize,
    batches: usize,
    of_batches: usize,
    next: usize,
}

impl EvalBatches {
    /// The batches of `shard`; at most `max_batches` of them, spread evenly over it.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(shard: &TokenShard, batch_size: usize, seq_length: usize, max_batches: Option<usize>) -> Self {
        assert!(batch_size > 0 && seq_length > 0, "batches of {batch_size} x {seq_length}");
        let of_batches = shard.len().saturating_sub(1).div_ceil(seq_length).div_ceil(batch_size);
        let batches = max_batches.map_or(of_batches, |limit| limit.min(of_batches));
        Self { shard: shard.clone(), batch_size, seq_length, batches, of_batches, next: 0 }
    }

    fn batch(&self, index: usize) -> TokenBatch {
        let mut batch = TokenBatch::with_capacity(self.batch_size, self.seq_length);
        let targets = self.shard.len() - 1;
        for row in 0..self.batch_size {
            let start = ((index * self.batch_size + row) * self.seq_length).min(targets);
            let end = (start + self.seq_length).min(targets);
            batch.push_row(&self.shard.get(start..end + 1));
        }
        batch
    }
}

impl Iterator for EvalBatches {
    type Item = TokenBatch;

    fn next(&mut self) -> Option<TokenBatch> {
        if self.next == self.batches {
            return None;
        }
        let index = self.next * self.of_batches / self.batches;
        self.next += 1;
        Some(self.batch(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batches - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for EvalBatches {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::counting_shard;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_prediction_counts_exactly_once(
            tokens in 0_usize..300, batch_size in 1_usize..6, seq_length in 1_usize..20
        ) {
            let shard = counting_shard(tokens);
            let mut counted = Vec::new();
            for batch in EvalBatches::new(&shard, batch_size, seq_length, None) {
                let places = batch_size * seq_length;
                prop_assert_eq!((batch.input_ids.len(), batch.targets.len()), (places, places));
                prop_assert_eq!(batch.loss_mask.len(), places);
                prop_assert!(batch.counted_tokens() > 0);
                for ((id, target), weight) in batch.input_ids.iter().zip(&batch.targets).zip(&batch.loss_mask) {
                    if *weight == 1.0 {
                        prop_assert_eq!(id + 1, *target);
                        counted.push(*target);
                    } else {
                        prop_assert_eq!((*id, *target, *weight), (0, 0, 0.0));
                    }
                }
            }
            prop_assert!(counted.into_iter().eq(1..tokens.max(1) as u32));
        }
    }

    #[test]
    fn a_limit_spreads_the_batches() {
        let shard = counting_shard(101);
        let firsts = |limit| -> Vec<u32> {
            EvalBatches::new(&shard, 2, 5, limit).map(|batch| batch.input_ids[0]).collect()
        };
        assert_eq!(firsts(None), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
        assert_eq!(firsts(Some(3)), [0, 30, 60]);
        assert_eq!(firsts(Some(99)).len(), 10);
        assert_eq!(firsts(Some(0)).len(), 0);
        assert_eq!(EvalBatches::new(&shard, 2, 5, Some(3)).len(), 3);
    }
}
