//! From a prompt to streamed text: finds and loads what continues it.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use smelt_backend::{Job, Kernels, Name, dispatch, memory};
use smelt_generate::{GenerateOptions, GenerateReport, SamplingOptions};
use smelt_model::ModelConfig;
use smelt_model::estimate::{InferenceShape, inference};
use smelt_text::Tokenizer;

use crate::continuation::Continuation;
use crate::error::CliError;
use crate::memory_plan::held_bytes;
use crate::model_source::ModelSource;

/// Prompt positions that run at a time.
const PREFILL_POSITIONS: usize = 512;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRequest {
    /// Model folder, or folder of a run.
    pub model: PathBuf,
    /// Folder of an adapter on the model, or of the run that trained it.
    pub adapter: Option<PathBuf>,
    /// The text to continue; without one, a text is begun.
    pub prompt: Option<String>,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: SamplingOptions,
    /// Texts that end the generation; they are not handed out.
    pub stop: Vec<String>,
}

/// What was generated, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextReport {
    /// The text, without the prompt.
    pub text: String,
    /// Tokens, seconds, and why it ended.
    #[serde(flatten)]
    pub report: GenerateReport,
    /// Prompt tokens per second.
    pub prompt_tokens_per_second: f64,
    /// Tokens per second after the first.
    pub generation_tokens_per_second: f64,
    /// Largest resident memory of the process so far, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// A request whose files were found and whose prompt was tokenized.
#[derive(Debug)]
pub struct Generation {
    source: ModelSource,
    config: ModelConfig,
    continuation: Continuation,
}

impl Generation {
    /// Finds the model, reads its configuration and tokenizer, and tokenizes the prompt.
    ///
    /// # Errors
    /// [`CliError`] if a file is missing or damaged, or there is no token to begin a text with.
    pub fn prepare(request: &TextRequest) -> Result<Self, CliError> {
        request.sampling.validate()?;
        let source = ModelSource::find(&request.model, request.adapter.as_deref())?;
        let config = source.config()?;
        let folder = source.tokenizer_folder();
        let tokenizer = Tokenizer::from_folder(folder)?;
        let prompt = match &request.prompt {
            Some(text) => tokenizer.encode_with_special_tokens(text)?,
            None => vec![start_of_text(&config, &tokenizer).ok_or_else(|| CliError::Usage {
                message: format!("the tokenizer in `{}` has no token that begins a text", folder.display()),
                hint: "give a `--prompt`".to_owned(),
            })?],
        };
        let options = GenerateOptions {
            max_tokens: request.max_tokens,
            stop_tokens: stop_tokens(&config, &tokenizer),
            sampling: request.sampling.clone(),
        };
        let continuation = Continuation { tokenizer, prompt, options, stop: request.stop.clone() };
        Ok(Self { source, config, continuation })
    }

    /// Memory that the generation will take at its peak, by estimate.
    pub fn required_bytes(&self) -> u64 {
        let Continuation { prompt, options, .. } = &self.continuation;
        let tokens = prompt.len().saturating_add(options.max_tokens);
        let shape = InferenceShape {
            batch_size: 1,
            prompt_length: prompt.len().min(PREFILL_POSITIONS),
            capacity: tokens.min(self.config.decoder.context_length()),
            kv_bits: None,
            weights_bytes: held_bytes(&self.source.base, None),
        };
        inference(&self.config.decoder, shape).peak_bytes
    }

    /// Generates on `backend`; text goes to `on_text` as soon as it is certain, until that breaks.
    ///
    /// # Errors
    /// [`CliError`] if the weights cannot be loaded or the prompt does not fit the model.
    pub fn run(
        &self,
        backend: Name,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<TextReport, CliError> {
        dispatch(backend, GenerationJob { generation: self, on_text })
    }
}

/// Where no text is given to continue: the token that ends one begins the next in training.
pub fn start_of_text(config: &ModelConfig, tokenizer: &Tokenizer) -> Option<u32> {
    let begins = config.raw.get("bos_token_id").and_then(serde_json::Value::as_u64);
    let begins = begins.and_then(|id| u32::try_from(id).ok());
    begins.or(tokenizer.end_of_text())
}

/// The tokens that end a text.
pub fn stop_tokens(config: &ModelConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut stop_tokens = config.eos_token_ids();
    stop_tokens.extend(tokenizer.end_of_text());
    stop_tokens
}

struct GenerationJob<'a> {
    generation: &'a Generation,
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl Job for GenerationJob<'_> {
    type Output = Result<TextReport, CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let Generation { source, continuation, .. } = self.generation;
        let (config, model) = source.load::<B>(&device)?;
        let (text, report) = continuation.run(&model, &config, self.on_text, &device)?;
        Ok(TextReport {
            text,
            prompt_tokens_per_second: report.prompt_tokens_per_second(),
            generation_tokens_per_second: report.generation_tokens_per_second(),
            peak_memory_bytes: memory::process_peak_bytes(),
            report,
        })
    }
}
