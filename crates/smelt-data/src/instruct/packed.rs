//! Rows of several examples, for training without padding to speak of.

use std::sync::Arc;

use super::Examples;
use crate::DataError;
use crate::batch::{PackedRows, Passage, RowSource, Shuffle, pack};

/// Examples laid into rows as tightly as they fit; of preferences, the chosen answers.
///
/// Which examples share a row is decided once; an epoch shuffles the rows.
#[derive(Debug, Clone)]
pub struct PackedExamples {
    examples: Arc<Examples>,
    seq_length: usize,
    rows: PackedRows<usize>,
    shuffle: Shuffle,
}

impl PackedExamples {
    /// Packs `examples` into rows of `seq_length` predictions, in the order of `seed`.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] if an example is longer than a row.
    pub fn new(examples: Arc<Examples>, seq_length: usize, seed: u64) -> Result<Self, DataError> {
        let lengths: Vec<usize> =
            (0..examples.len()).map(|example| examples.passage(example).predictions()).collect();
        check_length(seq_length, lengths.iter().copied())?;
        let rows = pack(&lengths, seq_length);
        let shuffle = Shuffle::new(rows.len() as u64, seed);
        Ok(Self { examples, seq_length, rows, shuffle })
    }
}

/// # Errors
/// [`DataError::InvalidOption`] if a length is above `seq_length`.
pub fn check_length(seq_length: usize, lengths: impl Iterator<Item = usize>) -> Result<(), DataError> {
    if lengths.max().is_some_and(|longest| longest > seq_length) {
        return Err(DataError::InvalidOption {
            name: "seq_length",
            value: seq_length.to_string(),
            expected: "the length that the examples were made for",
        });
    }
    Ok(())
}

impl RowSource for PackedExamples {
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
        self.rows.row(row as usize).iter().map(|&example| self.examples.passage(example)).collect()
    }
}
