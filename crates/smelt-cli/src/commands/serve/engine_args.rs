//! Limits of the engine, as they are typed.

use clap::Args;
use smelt_generate::engine::{DraftSource, EngineOptions, Speculation};
use smelt_model::CacheBits;

use super::models::GUESSES;
use crate::error::CliError;
use crate::quantity::ByteSize;
use crate::text_model::TextModel;

/// Limits of the engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the engine")]
pub struct EngineArgs {
    /// Most requests that run at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_running: u32,
    /// Most requests that wait; further ones are refused
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_waiting: u32,
    /// Most tokens of prompts in one pass: more reads prompts faster, fewer keeps others going meanwhile
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub prefill_tokens: u32,
    /// Memory for keys and values
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub cache_memory: ByteSize,
    /// Of this, at most so much for prompts that may come again; 0 keeps none [default: half of it]
    #[arg(long, value_name = "SIZE")]
    pub prefix_memory: Option<String>,
    /// Memory for weights: a model that nobody uses makes room for another [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub model_memory: Option<ByteSize>,
    /// Guess tokens ahead from what a text has already
    #[arg(long, group = GUESSES)]
    pub prompt_lookup: bool,
    /// Most tokens of a guess
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32), requires = GUESSES)]
    pub draft_tokens: u8,
    /// Keep keys and values in 8 or 4 bits
    #[arg(long, value_name = "BITS", value_parser = ["8", "4"])]
    pub kv_bits: Option<String>,
}

impl EngineArgs {
    /// The options of the engine for `models`.
    ///
    /// # Errors
    /// [`CliError::Usage`] for a size that is none.
    pub fn options(&self, models: &[TextModel]) -> Result<EngineOptions, CliError> {
        let cache_bytes = self.cache_memory.0;
        let prefix_bytes = match self.prefix_memory.as_deref() {
            None => cache_bytes / 2,
            Some("0") => 0,
            Some(size) => {
                let size: ByteSize = size.parse().map_err(|error| CliError::Usage {
                    message: format!("`--prefix-memory {size}`: {error}"),
                    hint: "such as `512MiB`, or 0".to_owned(),
                })?;
                size.0.min(cache_bytes)
            }
        };
        let has_draft = models.iter().any(|model| model.draft.is_some());
        let source = if has_draft { DraftSource::Model } else { DraftSource::PromptLookup };
        let guesses = has_draft || self.prompt_lookup;
        Ok(EngineOptions {
            max_running: self.max_running as usize,
            max_waiting: self.max_waiting as usize,
            prefill_tokens: self.prefill_tokens as usize,
            weights_bytes: self.model_memory.as_ref().map_or(u64::MAX, |size| size.0),
            cache_bytes,
            prefix_bytes,
            kv_bits: self
                .kv_bits
                .as_deref()
                .map(|bits| if bits == "8" { CacheBits::Eight } else { CacheBits::Four }),
            speculation: guesses.then_some(Speculation { tokens: self.draft_tokens.into(), source }),
        })
    }
}
