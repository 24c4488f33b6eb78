//! Flags of the commands that generate text: which model, how it runs, how tokens are drawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;
use smelt_data::hub::RepoKind;
use smelt_generate::SamplingOptions;
use smelt_model::CacheBits;

use crate::context::Context;
use crate::error::CliError;
use crate::generation::{DecodingOptions, TextRequest};
use crate::hub::local_folder;
use crate::quickstart;

/// Which model, and how it runs.
#[derive(Debug, Args)]
pub struct ModelFlags {
    /// Model folder, folder of a run, or hub id
    #[arg(long, value_name = "DIR", default_value = quickstart::OUTPUT)]
    pub model: PathBuf,
    /// Folder of an adapter, or of the run that trained it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Keep keys and values in 8 or 4 bits
    #[arg(long, value_name = "BITS", value_parser = ["8", "4"], help_heading = "Speed and memory")]
    pub kv_bits: Option<String>,
    /// Smaller model with the same tokenizer, which guesses tokens ahead
    #[arg(long, value_name = "DIR", help_heading = "Speed and memory")]
    pub draft_model: Option<PathBuf>,
    /// Guess tokens ahead from what the text has already
    #[arg(long, conflicts_with = "draft_model", help_heading = "Speed and memory")]
    pub prompt_lookup: bool,
    /// Most tokens of a guess
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32), help_heading = "Speed and memory")]
    pub draft_tokens: u8,
    /// File that keeps prompts which were read, for the next time
    #[arg(long, value_name = "FILE", help_heading = "Speed and memory")]
    pub prompt_cache: Option<PathBuf>,
}

/// How tokens are drawn, and when a text ends.
#[derive(Debug, Args)]
pub struct SamplingFlags {
    /// Randomness; 0 always takes the likeliest token
    #[arg(long, value_name = "X", default_value_t = 0.8, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Keep the likeliest tokens that together have this probability
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Keep this many of the likeliest tokens
    #[arg(long, value_name = "N")]
    pub top_k: Option<usize>,
    /// Keep tokens at least this probable, relative to the likeliest
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Keep the tokens of about the expected surprise that together have this probability
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub typical_p: Option<f64>,
    /// How often the likeliest of several good tokens are left out (XTC)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub xtc_probability: Option<f64>,
    /// Probability from which on XTC calls a token good [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub xtc_threshold: Option<f64>,
    /// Makes tokens that were seen less likely; above 1
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f64>,
    /// Taken from the logit of a token that was generated before
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub presence_penalty: Option<f64>,
    /// Taken from the logit of a token each time it was generated before
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f64>,
    /// No sequence of this many tokens comes twice
    #[arg(long, value_name = "N")]
    pub no_repeat_ngram_size: Option<usize>,
    /// End at this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// JSON schema that the text must follow, or a file with it
    #[arg(long, value_name = "JSON|FILE")]
    pub json_schema: Option<String>,
    /// Seed of the sampling [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl ModelFlags {
    /// What the flags ask for, with a prompt to be filled in.
    ///
    /// # Errors
    /// [`CliError`] if the model cannot be found, or the schema cannot be read.
    pub fn request(
        &self,
        sampling: &SamplingFlags,
        max_tokens: usize,
        context: &Context,
    ) -> Result<TextRequest, CliError> {
        let bits = self.kv_bits.as_deref().and_then(|bits| bits.parse().ok());
        let draft = self.draft_model.as_deref();
        Ok(TextRequest {
            model: local_folder(&self.model, RepoKind::Model, context)?,
            adapter: self.adapter.clone(),
            prompt: None,
            max_tokens,
            sampling: sampling.options(),
            stop: sampling.stop.clone(),
            json_schema: sampling.json_schema.as_deref().map(schema).transpose()?,
            decoding: DecodingOptions {
                kv_bits: bits.and_then(CacheBits::from_number),
                draft_model: draft.map(|draft| local_folder(draft, RepoKind::Model, context)).transpose()?,
                prompt_lookup: self.prompt_lookup,
                draft_tokens: self.draft_tokens.into(),
                prompt_cache: self.prompt_cache.clone(),
            },
        })
    }
}

impl SamplingFlags {
    fn options(&self) -> SamplingOptions {
        SamplingOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            seed: self.seed.unwrap_or_else(seed_of_the_moment),
            ..SamplingOptions::default()
        }
    }
}

/// JSON as it is typed, or in the file of that name.
fn schema(given: &str) -> Result<Value, CliError> {
    let path = Path::new(given);
    let text = match given.trim_start().starts_with('{') {
        true => given.to_owned(),
        false => fs::read_to_string(path).map_err(|source| CliError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?,
    };
    serde_json::from_str(&text).map_err(|source| CliError::Json { path: path.to_owned(), source })
}

/// Another seed at each call, short enough to be typed again.
fn seed_of_the_moment() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) % 1_000_000
}
