//! Rows of whole documents.
//!
//! A document is cut only if it is longer than a row. Which documents share a row is decided once, when
//! the source is made; an epoch shuffles the rows. The plan takes 8 bytes per document and row, and about
//! 50 while it is made.

use super::{PackedRows, Passage, RowSource, Shuffle, check_sizes, pack};
use crate::{DataError, DocumentIndex, TokenShard};

/// The documents of a shard, laid into rows as tightly as they fit.
///
/// Every token of a document but its first is predicted once per epoch, from the tokens of its document
/// that lie in the row. That a document follows another is not learnt.
#[derive(Debug, Clone)]
pub struct PackedDocuments {
    shard: TokenShard,
    documents: DocumentIndex,
    seq_length: usize,
    /// Where the pieces of documents begin in the shard.
    pieces: PackedRows<u64>,
    shuffle: Shuffle,
}

impl PackedDocuments {
    /// Packs the `documents` of `shard`; the rows come in the order of `seed`.
    ///
    /// # Errors
    /// [`DataError::NothingToPredict`] if no document has two tokens; [`DataError::InvalidOption`] if
    /// `seq_length` is 0.
    ///
    /// # Panics
    /// If `documents` is of another shard.
    pub fn new(
        shard: &TokenShard,
        documents: &DocumentIndex,
        seq_length: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let (tokens, indexed) = (shard.len() as u64, documents.tokens());
        assert!(tokens == indexed, "documents of {indexed} tokens in a shard of {tokens}");
        check_sizes(&[("seq_length", seq_length)])?;
        let (mut starts, mut lengths) = (Vec::new(), Vec::new());
        for document in 0..documents.len() {
            let range = documents.range(document);
            let last = range.end.saturating_sub(1);
            for start in (range.start..last).step_by(seq_length) {
                starts.push(start);
                lengths.push((last - start).min(seq_length as u64) as usize);
            }
        }
        if starts.is_empty() {
            let path = shard.path().to_owned();
            return Err(DataError::NothingToPredict { path });
        }
        let pieces = pack(&lengths, seq_length).map(|piece| starts[piece]);
        let shuffle = Shuffle::new(pieces.len() as u64, seed);
        let (shard, documents) = (shard.clone(), documents.clone());
        Ok(Self { shard, documents, seq_length, pieces, shuffle })
    }

    fn piece(&self, start: u64) -> Passage {
        let end = self.documents.range(self.documents.document_at(start)).end;
        let end = end.min(start + self.seq_length as u64 + 1);
        Passage { tokens: self.shard.get(start as usize..end as usize), counted: None }
    }
}

impl RowSource for PackedDocuments {
    fn seq_length(&self) -> usize {
        self.seq_length
    }

    fn rows_per_epoch(&self) -> u64 {
        self.shuffle.len()
    }

    fn separates_passages(&self) -> bool {
        true
    }

    fn row(&self, index: u64) -> Vec<Passage> {
        let (_, row) = self.shuffle.at(index);
        self.pieces.row(row as usize).iter().map(|&start| self.piece(start)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::TokenDtype;
    use crate::batch::Sampler;

    /// Documents of these lengths; tokens are unique but for the 0 that ends a document.
    fn shard(lengths: &[usize]) -> (TokenShard, DocumentIndex) {
        let mut next = 0;
        let ids = lengths.iter().flat_map(|&length| {
            let first = next + 1;
            next += length as u32 - 1;
            (first..=next).chain([0]).collect::<Vec<_>>()
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        std::fs::write(&path, ids.flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let shard = TokenShard::open(&path, TokenDtype::U32).unwrap();
        let documents = DocumentIndex::find(&shard, 0);
        (shard, documents)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_prediction_of_every_document_is_made_once_per_epoch(
            lengths in prop::collection::vec(1_usize..60, 1..40), seq_length in 1_usize..30,
            epoch in 0_u64..3, seed: u64
        ) {
            prop_assume!(lengths.iter().any(|&length| length > 1));
            let (shard, documents) = shard(&lengths);
            let packed = PackedDocuments::new(&shard, &documents, seq_length, seed).unwrap();
            let rows = packed.rows_per_epoch();
            let mut found = BTreeMap::new();
            for row in epoch * rows..(epoch + 1) * rows {
                for passage in packed.row(row) {
                    passage.tokens.windows(2).for_each(|pair| *found.entry((pair[0], pair[1])).or_insert(0) += 1);
                }
            }
            let ids = shard.get(0..shard.len());
            let mut expected = BTreeMap::new();
            for pair in ids.windows(2).filter(|pair| pair[0] != 0) {
                expected.insert((pair[0], pair[1]), 1);
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_document_that_fits_a_row_is_not_cut(
            lengths in prop::collection::vec(2_usize..20, 1..40), seed: u64
        ) {
            let (shard, documents) = shard(&lengths);
            let packed = PackedDocuments::new(&shard, &documents, 19, seed).unwrap();
            let passages: Vec<Passage> = (0..packed.rows_per_epoch()).flat_map(|row| packed.row(row)).collect();
            prop_assert_eq!(passages.len(), lengths.len());
            prop_assert!(passages.iter().all(|passage| passage.tokens.last() == Some(&0)));
        }
    }

    #[test]
    fn a_batch_tells_its_documents_apart() {
        let (shard, documents) = shard(&[3, 4]);
        let packed = PackedDocuments::new(&shard, &documents, 6, 0).unwrap();
        let batch = Sampler::of_rows(std::sync::Arc::new(packed), 1).unwrap().batch(5);
        assert_eq!(batch.input_ids, [3, 4, 5, 1, 2, 0]);
        assert_eq!(batch.targets, [4, 5, 0, 2, 0, 0]);
        assert_eq!(batch.document_ids.unwrap(), [0, 0, 0, 1, 1, 2]);
        assert_eq!(batch.position_ids.unwrap(), [0, 1, 2, 0, 1, 0]);
    }

    #[test]
    fn a_shard_of_single_tokens_is_refused() {
        let (shard, documents) = shard(&[1, 1, 1]);
        let message = PackedDocuments::new(&shard, &documents, 6, 0).unwrap_err().to_string();
        assert!(message.ends_with("holds no document of two tokens or more"), "{message}");
    }
}
