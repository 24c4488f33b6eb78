//! The data of a run, tokenized: shards of text, or instructions in memory.

use std::path::Path;
use std::sync::Arc;

use smelt_data::{EvalBatches, Prepared, Sampler};
use smelt_train::Data;

use crate::config::RunConfig;
use crate::error::CliError;
use crate::instructions::Instructions;

/// What a run trains on.
pub enum RunData {
    /// Shards of text.
    Text(Box<Prepared>),
    /// Examples of conversations and completions.
    Instructions(Box<Instructions>),
}

impl RunData {
    /// Where its files lie, the tokenizer's among them.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Text(prepared) => &prepared.folder,
            Self::Instructions(instructions) => &instructions.tokenizer_folder,
        }
    }

    /// Token ids of its tokenizer.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Text(prepared) => prepared.meta.vocab_size,
            Self::Instructions(instructions) => instructions.tokenizer.vocab_size(),
        }
    }

    /// Tells its tokenizer from others.
    pub fn tokenizer_sha256(&self) -> String {
        match self {
            Self::Text(prepared) => prepared.meta.tokenizer_sha256.clone(),
            Self::Instructions(instructions) => instructions.tokenizer.sha256(),
        }
    }

    /// The token that ends a text.
    pub fn end_of_text(&self) -> Option<u32> {
        match self {
            Self::Text(prepared) => prepared.meta.end_of_text,
            Self::Instructions(instructions) => instructions.tokenizer.end_of_text(),
        }
    }

    /// Tokens to learn.
    pub fn train_tokens(&self) -> u64 {
        match self {
            Self::Text(prepared) => prepared.meta.train.tokens,
            Self::Instructions(instructions) => instructions.folder.train.counted_tokens() as u64,
        }
    }

    /// Tokens to validate on.
    pub fn val_tokens(&self) -> u64 {
        match self {
            Self::Text(prepared) => prepared.meta.val.tokens,
            Self::Instructions(instructions) => {
                instructions.folder.valid.as_ref().map_or(0, |valid| valid.counted_tokens() as u64)
            }
        }
    }

    /// Batches of `config`.
    ///
    /// # Errors
    /// [`CliError`] if there is less than one batch.
    pub fn batches(&self, config: &RunConfig) -> Result<Data, CliError> {
        let train = &config.train;
        let (batch, seq) = (train.batch_size, train.seq_length);
        match self {
            Self::Instructions(instructions) => instructions.batches(config),
            Self::Text(prepared) => Ok(Data {
                train: Arc::new(Sampler::new(&prepared.train, batch, seq, train.seed)?),
                validation: Some(EvalBatches::new(&prepared.val, batch, seq, Some(train.eval_batches))),
                fingerprint: prepared.meta.train.sha256.clone(),
            }),
        }
    }
}
