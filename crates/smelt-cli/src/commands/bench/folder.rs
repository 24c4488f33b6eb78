//! Speed of a model folder: loading, the first token, a prompt, and decoding.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use smelt_backend::{Job, Kernels};
use smelt_generate::{GenerateOptions, generate};
use smelt_model::weights::LoadOptions;

use super::{batch, median};
use crate::error::CliError;
use crate::model_files;

/// Tokens of the prompt.
pub const PROMPT_TOKENS: usize = 512;
/// Rounds; the first warms the system's file cache and does not count.
const ROUNDS: usize = 4;

/// Loads a folder and generates, several times over.
pub struct FolderJob<'a> {
    pub folder: &'a Path,
    /// Tokens to decode.
    pub tokens: usize,
}

/// Medians over the rounds.
pub struct FolderSpeed {
    pub load_seconds: f64,
    /// Loading, the prompt, and one token.
    pub first_token_seconds: f64,
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    /// What one decoded token reads.
    pub weights_bytes: f64,
}

impl Job for FolderJob<'_> {
    type Output = Result<FolderSpeed, CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            rounds.push(self.round::<B>(&device)?);
        }
        let median = |pick: fn(&FolderSpeed) -> f64| median(rounds[1..].iter().map(pick).collect());
        Ok(FolderSpeed {
            load_seconds: median(|round| round.load_seconds),
            first_token_seconds: median(|round| round.first_token_seconds),
            prefill_tokens_per_second: median(|round| round.prefill_tokens_per_second),
            decode_tokens_per_second: median(|round| round.decode_tokens_per_second),
            weights_bytes: median(|round| round.weights_bytes),
        })
    }
}

impl FolderJob<'_> {
    fn round<B: Kernels>(&self, device: &B::Device) -> Result<FolderSpeed, CliError> {
        let started = Instant::now();
        let (config, model) = model_files::load::<B>(self.folder, LoadOptions::default(), device)?;
        let model = model.unrounded();
        let load_seconds = started.elapsed().as_secs_f64();
        let prompt = batch(1, PROMPT_TOKENS, config.decoder.vocab_size).input_ids;
        let options = GenerateOptions { max_tokens: self.tokens, ..GenerateOptions::default() };
        let mut first_token_seconds = 0.0;
        let mut on_token = |_| {
            if first_token_seconds == 0.0 {
                first_token_seconds = started.elapsed().as_secs_f64();
            }
            ControlFlow::Continue(())
        };
        let report = generate(&model, &config, &prompt, &options, &mut on_token, device)?;
        let read = model.size_bytes() as f64;
        Ok(FolderSpeed {
            load_seconds,
            first_token_seconds,
            prefill_tokens_per_second: report.prompt_tokens_per_second(),
            decode_tokens_per_second: report.generation_tokens_per_second(),
            weights_bytes: read,
        })
    }
}
