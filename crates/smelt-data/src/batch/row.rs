//! Rows before they are put together to batches.

use std::fmt;

/// A text, or a part of one, in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Its tokens. The model reads all but the last and predicts all but the first.
    pub tokens: Vec<u32>,
    /// For each token but the first, whether its prediction counts; `None` if all do.
    pub counted: Option<Vec<bool>>,
}

impl Passage {
    /// Places that it takes in a row.
    pub fn predictions(&self) -> usize {
        self.tokens.len().saturating_sub(1)
    }
}

/// Rows by number, without end: epoch after epoch, each in an order of its own.
///
/// A row depends on the source and its number and on nothing else.
pub trait RowSource: fmt::Debug + Send + Sync {
    /// Predictions that fit a row.
    fn seq_length(&self) -> usize;

    /// Rows in which everything is seen once.
    fn rows_per_epoch(&self) -> u64;

    /// Whether the passages of a row must not attend to each other.
    fn separates_passages(&self) -> bool;

    /// The passages of a row, together `seq_length` predictions or fewer.
    fn row(&self, index: u64) -> Vec<Passage>;
}
