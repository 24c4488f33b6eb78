//! From a prompt to streamed text: finds and loads what continues it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use smelt_backend::{Name, memory};
use smelt_generate::engine::{CompletionOptions, DraftSource, EngineOptions, Speculation};
use smelt_generate::{Grammar, GrammarCompiler, SamplingOptions, StopReason};
use smelt_model::CacheBits;

use crate::engine::{Answer, with_engine};
use crate::error::CliError;
use crate::model_source::ModelSource;
use crate::text_model::TextModel;

/// Memory for prompts that are kept for later ones.
const PREFIX_BYTES: u64 = 1 << 30;

/// What to generate.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// The text is JSON that fits this schema.
    pub json_schema: Option<Value>,
    /// How the model runs.
    pub decoding: DecodingOptions,
}

/// How a model runs: none of these changes what is drawn but for the rounding of `kv_bits`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodingOptions {
    /// Keys and values are rounded to this.
    pub kv_bits: Option<CacheBits>,
    /// Folder of a smaller model with the same tokenizer, which guesses tokens ahead.
    pub draft_model: Option<PathBuf>,
    /// Tokens are guessed from what the text has already.
    pub prompt_lookup: bool,
    /// Most tokens of a guess.
    pub draft_tokens: usize,
    /// File in which prompts that were read are kept for the next run.
    pub prompt_cache: Option<PathBuf>,
}

impl DecodingOptions {
    /// The model that `path` and `adapter` name, with what these options ask of it.
    ///
    /// # Errors
    /// [`CliError`] if a file is missing or damaged.
    pub fn open(&self, path: &Path, adapter: Option<&Path>) -> Result<TextModel, CliError> {
        let source = ModelSource::find(path, adapter)?;
        let mut model = TextModel::read(path.display().to_string(), source)?;
        if let Some(folder) = &self.draft_model {
            model.set_draft(folder)?;
        }
        model.prompt_cache.clone_from(&self.prompt_cache);
        Ok(model)
    }

    /// The engine for up to `running` requests at a time, whose memory was found to be there.
    pub fn engine(&self, running: usize, keeps_prefixes: bool) -> EngineOptions {
        let source = if self.draft_model.is_some() { DraftSource::Model } else { DraftSource::PromptLookup };
        let guesses = self.draft_model.is_some() || self.prompt_lookup;
        let keeps_prefixes = keeps_prefixes || self.prompt_cache.is_some();
        EngineOptions {
            max_running: running,
            max_waiting: usize::MAX,
            cache_bytes: u64::MAX,
            prefix_bytes: if keeps_prefixes { PREFIX_BYTES } else { 0 },
            kv_bits: self.kv_bits,
            speculation: guesses.then_some(Speculation { tokens: self.draft_tokens, source }),
            ..EngineOptions::default()
        }
    }
}

/// What was generated, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextReport {
    /// The text, without the prompt.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, the ones that were kept from earlier.
    pub cached_tokens: usize,
    /// Tokens handed out.
    pub generated_tokens: usize,
    /// Until the first logits.
    pub prompt_seconds: f64,
    /// From then on.
    pub generation_seconds: f64,
    /// Prompt tokens per second.
    pub prompt_tokens_per_second: f64,
    /// Tokens per second after the first.
    pub generation_tokens_per_second: f64,
    /// Of the tokens that were guessed ahead, the share that was right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_acceptance: Option<f64>,
    /// Largest resident memory of the process so far, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Why it ended.
    pub stop_reason: StopReason,
}

impl TextReport {
    /// The report on an answer that is over.
    pub fn new(answer: Answer) -> Self {
        let stop_reason = answer.stop_reason();
        let Answer { text, prompt, end, generated_tokens, .. } = answer;
        let rate = |tokens: usize, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let [prompt_seconds, generation_seconds] =
            end.as_ref().map_or([0.0; 2], |end| [end.prompt_seconds, end.generation_seconds]);
        let drafted = end.filter(|end| end.drafted_tokens > 0);
        Self {
            text,
            prompt_tokens: prompt.tokens,
            cached_tokens: prompt.cached_tokens,
            generated_tokens,
            prompt_seconds,
            generation_seconds,
            prompt_tokens_per_second: rate(prompt.tokens - prompt.cached_tokens, prompt_seconds),
            generation_tokens_per_second: rate(generated_tokens.saturating_sub(1), generation_seconds),
            draft_acceptance: drafted.map(|end| end.accepted_tokens as f64 / end.drafted_tokens as f64),
            peak_memory_bytes: memory::process_peak_bytes(),
            stop_reason,
        }
    }
}

/// A request whose files were found and whose prompt was tokenized.
#[derive(Debug)]
pub struct Generation {
    model: TextModel,
    prompt: Vec<u32>,
    request: TextRequest,
}

impl Generation {
    /// Finds the model, reads its configuration and tokenizer, and tokenizes the prompt.
    ///
    /// # Errors
    /// [`CliError`] if a file is missing or damaged, or there is no token to begin a text with.
    pub fn prepare(request: &TextRequest) -> Result<Self, CliError> {
        request.sampling.validate()?;
        let model = request.decoding.open(&request.model, request.adapter.as_deref())?;
        let prompt = model.prompt(request.prompt.as_deref())?;
        Ok(Self { model, prompt, request: request.clone() })
    }

    /// Memory that the generation will take at its peak, by estimate.
    pub fn required_bytes(&self) -> u64 {
        let tokens = self.prompt.len().saturating_add(self.request.max_tokens);
        self.model.required_bytes(1, tokens, self.request.decoding.kv_bits)
    }

    /// Generates on `backend`; text goes to `on_text` as soon as it is certain, until that breaks.
    ///
    /// # Errors
    /// [`CliError`] if the weights cannot be loaded or the prompt does not fit the model.
    pub fn run(
        &self,
        backend: Name,
        on_text: &mut (dyn FnMut(&str) -> ControlFlow<()> + Send),
    ) -> Result<TextReport, CliError> {
        let options = completion(&self.model, &self.request)?;
        let engine = self.request.decoding.engine(1, false);
        let answer = with_engine(backend, std::slice::from_ref(&self.model), engine, |engine| {
            engine.ask(self.prompt.clone(), options, on_text)
        })?;
        Ok(TextReport::new(answer))
    }
}

/// What `request` asks of the engine.
///
/// # Errors
/// [`CliError::Generate`] for a schema that cannot be followed.
pub fn completion(model: &TextModel, request: &TextRequest) -> Result<CompletionOptions, CliError> {
    let constraint = match &request.json_schema {
        Some(schema) => {
            let compiler = GrammarCompiler::new(&model.tokenizer, &model.stop_tokens)?;
            Some(compiler.compile(&Grammar::json_schema(schema))?)
        }
        None => None,
    };
    Ok(CompletionOptions {
        max_tokens: request.max_tokens,
        stop_tokens: model.stop_tokens.clone(),
        stop: request.stop.clone(),
        sampling: request.sampling.clone(),
        constraint,
        logprobs: None,
        prompt_logprobs: None,
    })
}
