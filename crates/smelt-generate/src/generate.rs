//! One sequence, token by token: the oracle for everything faster.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::Serialize;
use smelt_backend::Kernels;
use smelt_model::{CacheOptions, Decoder, ModelConfig};

use crate::decoding::{PREFILL_POSITIONS, Sequence};
use crate::error::GenerateError;
use crate::sampling::{Sampler, SamplingOptions};

/// What to generate and when to stop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Tokens that end the text; they are not handed out.
    pub stop_tokens: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: SamplingOptions,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// `max_tokens` were generated.
    MaxTokens,
    /// A stop token came, or nothing else could.
    StopToken,
    /// A stop string came.
    StopString,
    /// The context of the model is full.
    ContextFull,
    /// The caller wanted no more.
    Caller,
}

/// What was generated, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerateReport {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens handed out.
    pub generated_tokens: usize,
    /// Until the first logits.
    pub prompt_seconds: f64,
    /// From then on.
    pub generation_seconds: f64,
    /// Why it ended.
    pub stop_reason: StopReason,
}

impl GenerateReport {
    /// Prompt tokens per second.
    pub fn prompt_tokens_per_second(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_seconds)
    }

    /// Tokens per second after the first, which the prompt pays for.
    pub fn generation_tokens_per_second(&self) -> f64 {
        rate(self.generated_tokens.saturating_sub(1), self.generation_seconds)
    }
}

fn rate(tokens: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}

/// Continues `prompt` and hands each token to `on_token` as soon as it is drawn.
///
/// Ends after `max_tokens`, at a stop token, when the context is full, or when `on_token` breaks. The same
/// arguments on the same backend give the same tokens.
///
/// # Errors
/// [`GenerateError::EmptyPrompt`], [`GenerateError::PromptTooLong`] if the prompt leaves no room for a token,
/// [`GenerateError::Prompt`] for an unknown id, [`GenerateError::BadOption`], [`GenerateError::NotFinite`].
pub fn generate<B: Kernels>(
    model: &Decoder<B>,
    config: &ModelConfig,
    prompt: &[u32],
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    device: &B::Device,
) -> Result<GenerateReport, GenerateError> {
    let context = checked_context(config, prompt)?;
    let mut sampler = Sampler::new(&options.sampling)?;
    let limit = prompt.len().saturating_add(options.max_tokens).min(context);
    let options_of_cache = CacheOptions { max_pass: PREFILL_POSITIONS, ..CacheOptions::new(limit) };
    let mut sequence = Sequence::new(model, prompt.to_vec(), options_of_cache, device);
    let started = Instant::now();
    let mut logits = sequence.logits(model, device);
    let prompt_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let stop_reason = loop {
        let tokens = sequence.tokens();
        if tokens.len() - prompt.len() == options.max_tokens {
            break StopReason::MaxTokens;
        }
        if tokens.len() == context {
            break StopReason::ContextFull;
        }
        if sequence.unseen() > 0 {
            logits = sequence.logits(model, device);
        }
        let token = sampler.sample(&logits, sequence.tokens())?;
        if options.stop_tokens.contains(&token) {
            break StopReason::StopToken;
        }
        sequence.extend(&[token]);
        if on_token(token).is_break() {
            break StopReason::Caller;
        }
    };
    Ok(GenerateReport {
        prompt_tokens: prompt.len(),
        generated_tokens: sequence.tokens().len() - prompt.len(),
        prompt_seconds,
        generation_seconds: started.elapsed().as_secs_f64(),
        stop_reason,
    })
}

/// The context of the model, after checking that `prompt` fits it and its vocabulary.
pub(crate) fn checked_context(config: &ModelConfig, prompt: &[u32]) -> Result<usize, GenerateError> {
    let context = config.decoder.context_length();
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt.len() >= context {
        return Err(GenerateError::PromptTooLong { prompt: prompt.len(), context });
    }
    config.decoder.check_token_ids(prompt).map_err(GenerateError::Prompt)?;
    Ok(context)
}
