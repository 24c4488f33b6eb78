//! Validation batches: every prediction counted once.

use std::fmt;
use std::sync::Arc;

use super::windows::Tiles;
use super::{RowSource, TokenBatch};
use crate::TokenShard;

/// How much to validate on; the batches are spread evenly over what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalLimit {
    /// Everything.
    Everything,
    /// This many batches.
    Batches(usize),
    /// About this many tokens: rounded down to whole rows, but at least one. Which rows these are does not
    /// depend on `batch_size`, so that losses compare.
    Tokens(usize),
}

/// Batches that come to an end.
pub trait FiniteBatches: fmt::Debug + Send + Sync {
    fn len(&self) -> usize;

    fn batch(&self, index: usize) -> TokenBatch;
}

/// Iterates over validation batches.
///
/// The last row and the last batch are filled up with padding that `loss_mask` leaves out, so that no
/// shape occurs only there.
#[derive(Debug, Clone)]
pub struct EvalBatches {
    source: Arc<dyn FiniteBatches>,
    batches: usize,
    next: usize,
}

impl EvalBatches {
    /// The non-overlapping windows of `shard` in order; at most `max_batches` batches of them.
    ///
    /// A shard of fewer than two tokens gives none.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(shard: &TokenShard, batch_size: usize, seq_length: usize, max_batches: Option<usize>) -> Self {
        let limit = max_batches.map_or(EvalLimit::Everything, EvalLimit::Batches);
        Self::of_windows(shard, batch_size, seq_length, limit)
    }

    /// The non-overlapping windows of `shard` in order.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn of_windows(shard: &TokenShard, batch_size: usize, seq_length: usize, limit: EvalLimit) -> Self {
        Self::of_rows(Arc::new(Tiles::new(shard, seq_length)), batch_size, limit)
    }

    /// The rows of an epoch of `rows`.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    pub fn of_rows(rows: Arc<dyn RowSource>, batch_size: usize, limit: EvalLimit) -> Self {
        assert!(batch_size > 0, "batches of no row");
        let of_rows = rows.rows_per_epoch();
        let chosen = match limit {
            EvalLimit::Tokens(tokens) => ((tokens / rows.seq_length()) as u64).max(1).min(of_rows),
            EvalLimit::Everything | EvalLimit::Batches(_) => of_rows,
        };
        Self::of_batches(Arc::new(WholeRows { rows, batch_size, chosen }), limit)
    }

    /// The batches of `source`; a limit in tokens is the caller's to apply.
    pub(crate) fn of_batches(source: Arc<dyn FiniteBatches>, limit: EvalLimit) -> Self {
        let batches = match limit {
            EvalLimit::Batches(limit) => limit.min(source.len()),
            EvalLimit::Everything | EvalLimit::Tokens(_) => source.len(),
        };
        Self { source, batches, next: 0 }
    }
}

/// Rows of one epoch, the last batch filled up with empty ones.
#[derive(Debug)]
struct WholeRows {
    rows: Arc<dyn RowSource>,
    batch_size: usize,
    /// How many rows of the epoch, spread evenly.
    chosen: u64,
}

impl FiniteBatches for WholeRows {
    fn len(&self) -> usize {
        self.chosen.div_ceil(self.batch_size as u64) as usize
    }

    fn batch(&self, index: usize) -> TokenBatch {
        let separates = self.rows.separates_passages();
        let mut batch = TokenBatch::with_capacity(self.batch_size, self.rows.seq_length(), separates);
        let of_rows = u128::from(self.rows.rows_per_epoch());
        for place in 0..self.batch_size {
            let choice = (index * self.batch_size + place) as u64;
            if choice < self.chosen {
                let row = u128::from(choice) * of_rows / u128::from(self.chosen);
                batch.push_row(&self.rows.row(row as u64));
            } else {
                batch.push_row(&[]);
            }
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
        let index = self.next * self.source.len() / self.batches;
        self.next += 1;
        Some(self.source.batch(index))
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
    use crate::DocumentIndex;
    use crate::batch::{PackedDocuments, counting_shard};

    /// The targets that count, each checked to follow its input.
    fn counted(batches: EvalBatches) -> Vec<u32> {
        let mut counted = Vec::new();
        for batch in batches {
            let places = batch.batch_size * batch.seq_length;
            assert_eq!((batch.input_ids.len(), batch.targets.len()), (places, places));
            assert_eq!(batch.loss_mask.len(), places);
            assert!(batch.counted_tokens() > 0);
            for ((id, target), weight) in batch.input_ids.iter().zip(&batch.targets).zip(&batch.loss_mask) {
                if *weight == 1.0 {
                    assert_eq!(id + 1, *target);
                    counted.push(*target);
                } else {
                    assert_eq!((*id, *target, *weight), (0, 0, 0.0));
                }
            }
        }
        counted
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_prediction_counts_exactly_once(
            tokens in 0_usize..300, batch_size in 1_usize..6, seq_length in 1_usize..20
        ) {
            let found = counted(EvalBatches::new(&counting_shard(tokens), batch_size, seq_length, None));
            prop_assert!(found.into_iter().eq(1..tokens.max(1) as u32));
        }

        #[test]
        fn packed_documents_count_exactly_once(
            tokens in 3_usize..300, batch_size in 1_usize..6, seq_length in 1_usize..20, end in 2_u32..300
        ) {
            let shard = counting_shard(tokens);
            let documents = DocumentIndex::find(&shard, end);
            let rows = Arc::new(PackedDocuments::new(&shard, &documents, seq_length, 0).unwrap());
            let mut found = counted(EvalBatches::of_rows(rows, batch_size, EvalLimit::Everything));
            found.sort_unstable();
            let expected: Vec<u32> = (1..tokens as u32).filter(|target| *target != end + 1).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_limit_in_tokens_gives_the_same_tokens_in_every_batch_size(
            tokens in 2_usize..300, batch_size in 1_usize..6, seq_length in 1_usize..20, limit in 1_usize..300
        ) {
            let shard = counting_shard(tokens);
            let with = |batch_size| {
                counted(EvalBatches::of_windows(&shard, batch_size, seq_length, EvalLimit::Tokens(limit)))
            };
            let found = with(batch_size);
            prop_assert_eq!(&found, &with(1));
            prop_assert!(found.len() <= limit.max(seq_length));
            prop_assert!(found.len() + 2 * seq_length > limit.min(tokens));
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
        let rows: Vec<u32> = EvalBatches::of_windows(&shard, 2, 5, EvalLimit::Tokens(20))
            .flat_map(|batch| batch.input_ids)
            .collect();
        assert_eq!(rows.iter().step_by(5).copied().collect::<Vec<_>>(), [0, 25, 50, 75]);
    }
}
