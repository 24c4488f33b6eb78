//! Batches: rows of tokens as host arrays.
//!
//! A [`RowSource`] gives row `i` of a shard or of examples, a [`BatchSource`] puts rows together. Both are
//! functions of a seed and an index, so the index of the next batch is all that a run stores to resume.
//! What a trainer takes is a [`BatchSource`]; [`Prefetch`] runs one ahead of it.

mod eval;
mod mixture;
mod packed;
mod packing;
mod permutation;
mod prefetch;
mod row;
mod sampler;
mod token_batch;
mod windows;

pub(crate) use eval::FiniteBatches;
pub use eval::{EvalBatches, EvalLimit};
pub use mixture::Mixture;
pub use packed::PackedDocuments;
pub(crate) use packing::{PackedRows, pack};
pub use permutation::Permutation;
pub(crate) use permutation::Shuffle;
pub use prefetch::Prefetch;
pub use row::{Passage, RowSource};
pub use sampler::{BatchSource, Sampler};
pub use token_batch::TokenBatch;
pub use windows::Windows;

use crate::DataError;

/// # Errors
/// [`DataError::InvalidOption`] if a size is 0.
pub(crate) fn check_sizes(sizes: &[(&'static str, usize)]) -> Result<(), DataError> {
    match sizes.iter().find(|(_, value)| *value == 0) {
        None => Ok(()),
        Some((name, _)) => {
            Err(DataError::InvalidOption { name, value: "0".to_owned(), expected: "at least 1" })
        }
    }
}

/// A shard whose tokens are their own positions.
#[cfg(test)]
pub(crate) fn counting_shard(tokens: usize) -> crate::TokenShard {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let bytes: Vec<u8> = (0..tokens as u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, bytes).unwrap();
    // The mapping outlives the folder.
    crate::TokenShard::open(&path, crate::TokenDtype::U32).unwrap()
}
