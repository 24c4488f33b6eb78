//! Texts that a run draws from its model while it trains, to show what it has learned.

use std::ops::ControlFlow;
use std::path::Path;

use smelt_backend::Kernels;
use smelt_generate::{GenerateError, GenerateOptions, SamplingOptions};
use smelt_model::{Decoder, ModelConfig};
use smelt_text::Tokenizer;
use smelt_train::Sample;

use crate::config::RunConfig;
use crate::continuation::Continuation;
use crate::error::CliError;
use crate::model_files;
use crate::quickstart;
use crate::text_model::{start_of_text, stop_tokens};

/// The prompts of a run, tokenized, and when they are continued.
pub struct Samples {
    /// Steps between samples; 0 draws none.
    interval: u64,
    max_steps: u64,
    model: ModelConfig,
    continuations: Vec<(String, Continuation)>,
}

impl Samples {
    /// The samples that `config` asks for, of a model whose tokenizer lies in `folder`.
    ///
    /// # Errors
    /// [`CliError`] if a prompt does not fit the model.
    pub fn new(config: &RunConfig, model: &ModelConfig, folder: &Path) -> Result<Self, CliError> {
        let interval = config.log.sample_interval.unwrap_or(config.train.eval_interval);
        let mut continuations = Vec::new();
        if interval > 0 {
            let tokenizer = model_files::tokenizer(folder)?;
            for (text, prompt) in prompts(config, model, &tokenizer)? {
                continuations.push((text, continuation(config, model, tokenizer.clone(), prompt)));
            }
        }
        Ok(Self { interval, max_steps: config.train.max_steps, model: model.clone(), continuations })
    }

    /// Whether there is something to draw after `step` steps.
    pub fn are_due(&self, step: u64) -> bool {
        let due = self.interval > 0 && (step.is_multiple_of(self.interval) || step == self.max_steps);
        due && !self.continuations.is_empty()
    }

    /// Continues each prompt; the same step draws alike.
    pub fn draw<B: Kernels>(&self, model: &Decoder<B>, step: u64, device: &B::Device) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (prompt_index, (prompt, continuation)) in self.continuations.iter().enumerate() {
            match continuation.run(model, &self.model, &mut |_| ControlFlow::Continue(()), device) {
                Ok((text, _)) => samples.push(Sample { step, prompt_index, prompt: prompt.clone(), text }),
                Err(error) => tracing::warn!("no sample after step {step}: {error}"),
            }
        }
        samples
    }
}

/// How samples are drawn.
pub fn sampling(config: &RunConfig) -> SamplingOptions {
    SamplingOptions { temperature: 0.8, top_k: Some(40), seed: config.train.seed, ..Default::default() }
}

/// The text that samples continue where the config gives none; without one, a text is begun.
pub fn default_prompt(config: &RunConfig) -> Option<&'static str> {
    config.data.embedded.then_some(quickstart::PROMPT)
}

/// Texts to continue, with their tokens; none where there is no token to begin a text with.
fn prompts(
    config: &RunConfig,
    model: &ModelConfig,
    tokenizer: &Tokenizer,
) -> Result<Vec<(String, Vec<u32>)>, CliError> {
    let mut texts: Vec<&str> = config.log.sample_prompts.iter().map(String::as_str).collect();
    if texts.is_empty() {
        texts.extend(default_prompt(config));
    }
    if texts.is_empty() {
        return Ok(start_of_text(model, tokenizer)
            .map(|token| (String::new(), vec![token]))
            .into_iter()
            .collect());
    }
    let context = model.decoder.context_length();
    let tokenized = |text: &str| {
        let prompt = tokenizer.encode_with_special_tokens(text)?;
        match prompt.len() {
            0 => Err(GenerateError::EmptyPrompt.into()),
            length if length >= context => {
                Err(GenerateError::PromptTooLong { prompt: length, context }.into())
            }
            _ => Ok((text.to_owned(), prompt)),
        }
    };
    texts.into_iter().map(tokenized).collect()
}

fn continuation(
    config: &RunConfig,
    model: &ModelConfig,
    tokenizer: Tokenizer,
    prompt: Vec<u32>,
) -> Continuation {
    let options = GenerateOptions {
        max_tokens: config.log.sample_tokens,
        stop_tokens: stop_tokens(model, &tokenizer),
        sampling: sampling(config),
    };
    Continuation { tokenizer, prompt, options, stop: Vec::new() }
}
