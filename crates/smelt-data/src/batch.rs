//! Batches: windows of a shard as host arrays.
//!
//! A batch is a function of its index and the seed, so a run resumes from the index alone.

mod eval;
mod permutation;
mod sampler;

pub use eval::EvalBatches;
pub use permutation::Permutation;
pub use sampler::Sampler;

/// Rows of tokens and what follows each, row-major `[batch_size, seq_length]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBatch {
    /// Rows.
    pub batch_size: usize,
    /// Tokens per row.
    pub seq_length: usize,
    /// What the model reads.
    pub input_ids: Vec<u32>,
    /// The token after each of `input_ids`.
    pub targets: Vec<u32>,
    /// 1 where the prediction of `targets` counts, 0 at padding.
    pub loss_mask: Vec<f32>,
}

impl TokenBatch {
    fn with_capacity(batch_size: usize, seq_length: usize) -> Self {
        let tokens = batch_size * seq_length;
        Self {
            batch_size,
            seq_length,
            input_ids: Vec::with_capacity(tokens),
            targets: Vec::with_capacity(tokens),
            loss_mask: Vec::with_capacity(tokens),
        }
    }

    /// Appends a row of `seq_length + 1` tokens or fewer; what is missing is padding with id 0.
    fn push_row(&mut self, window: &[u32]) {
        let counted = window.len().saturating_sub(1);
        self.input_ids.extend(&window[..counted]);
        self.targets.extend(window.iter().skip(1));
        self.loss_mask.resize(self.loss_mask.len() + counted, 1.0);
        let tokens = self.input_ids.len() + (self.seq_length - counted);
        self.input_ids.resize(tokens, 0);
        self.targets.resize(tokens, 0);
        self.loss_mask.resize(tokens, 0.0);
    }

    /// Predictions that count.
    pub fn counted_tokens(&self) -> usize {
        self.loss_mask.iter().filter(|&&weight| weight != 0.0).count()
    }
}

/// A shard whose tokens are their own positions.
#[cfg(test)]
fn counting_shard(tokens: usize) -> crate::TokenShard {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let bytes: Vec<u8> = (0..tokens as u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, bytes).unwrap();
    // The mapping outlives the folder.
    crate::TokenShard::open(&path, crate::TokenDtype::U32).unwrap()
}
