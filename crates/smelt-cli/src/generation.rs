//! From a prompt to streamed text: tokenizer, model, sampler and stop strings put together.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smelt_backend::{Job, Kernels, Name, dispatch, memory};
use smelt_generate::{GenerateOptions, GenerateReport, SamplingOptions, StopStrings, generate};
use smelt_model::ModelConfig;
use smelt_model::estimate::{InferenceShape, inference};
use smelt_text::{StreamDecoder, Tokenizer};

use crate::error::CliError;
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
    tokenizer: Tokenizer,
    prompt: Vec<u32>,
    options: GenerateOptions,
    stop: Vec<String>,
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
        let mut stop_tokens = config.eos_token_ids();
        stop_tokens.extend(tokenizer.end_of_text());
        let prompt = match &request.prompt {
            Some(text) => tokenizer.encode_with_special_tokens(text)?,
            None => vec![start_of_text(&config, &tokenizer, folder)?],
        };
        let options = GenerateOptions {
            max_tokens: request.max_tokens,
            stop_tokens,
            sampling: request.sampling.clone(),
        };
        Ok(Self { source, config, tokenizer, prompt, options, stop: request.stop.clone() })
    }

    /// Memory that the generation will take at its peak, by estimate.
    pub fn required_bytes(&self) -> u64 {
        let tokens = self.prompt.len().saturating_add(self.options.max_tokens);
        let shape = InferenceShape {
            batch_size: 1,
            prompt_length: self.prompt.len().min(PREFILL_POSITIONS),
            capacity: tokens.min(self.config.decoder.context_length()),
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
fn start_of_text(config: &ModelConfig, tokenizer: &Tokenizer, folder: &Path) -> Result<u32, CliError> {
    let begins = config.raw.get("bos_token_id").and_then(serde_json::Value::as_u64);
    let begins = begins.and_then(|id| u32::try_from(id).ok());
    begins.or(tokenizer.end_of_text()).ok_or_else(|| CliError::Usage {
        message: format!("the tokenizer in `{}` has no token that begins a text", folder.display()),
        hint: "give a `--prompt`".to_owned(),
    })
}

struct GenerationJob<'a> {
    generation: &'a Generation,
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl Job for GenerationJob<'_> {
    type Output = Result<TextReport, CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let Generation { source, tokenizer, prompt, options, stop, .. } = self.generation;
        let (config, model) = source.load::<B>(&device)?;
        let mut writer = TextWriter::new(tokenizer, stop, self.on_text);
        let mut on_token = |token| writer.push(token);
        let report = generate(&model, &config, prompt, options, &mut on_token, &device)?;
        let text = writer.finish()?;
        Ok(TextReport {
            text,
            prompt_tokens_per_second: report.prompt_tokens_per_second(),
            generation_tokens_per_second: report.generation_tokens_per_second(),
            peak_memory_bytes: memory::process_peak_bytes(),
            report,
        })
    }
}

/// Turns tokens into text and watches for stop strings.
struct TextWriter<'a> {
    decoder: StreamDecoder<'a>,
    stops: StopStrings,
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    text: String,
    stopped: bool,
    failure: Option<CliError>,
}

impl<'a> TextWriter<'a> {
    fn new(
        tokenizer: &'a Tokenizer,
        stop: &[String],
        on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Self {
        let stops = StopStrings::new(stop.iter().cloned());
        Self {
            decoder: tokenizer.stream(),
            stops,
            on_text,
            text: String::new(),
            stopped: false,
            failure: None,
        }
    }

    fn push(&mut self, token: u32) -> ControlFlow<()> {
        match self.decoder.push(token) {
            Ok(Some(piece)) => self.take(&piece),
            // Part of a character: more tokens complete it, but the caller may want to stop here.
            Ok(None) => (self.on_text)(""),
            Err(error) => {
                self.failure = Some(error.into());
                ControlFlow::Break(())
            }
        }
    }

    fn take(&mut self, piece: &str) -> ControlFlow<()> {
        let progress = self.stops.push(piece);
        self.stopped = progress.stopped;
        self.text += &progress.text;
        (self.on_text)(&progress.text)?;
        if progress.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Hands out what was held back, and returns the whole text.
    fn finish(mut self) -> Result<String, CliError> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        if self.stopped {
            return Ok(self.text);
        }
        let piece = self.decoder.finish().unwrap_or_default();
        let progress = self.stops.push(&piece);
        let rest = if progress.stopped { progress.text } else { progress.text + &self.stops.finish() };
        // The text has ended: nothing is left to break off.
        let _ = (self.on_text)(&rest);
        self.text += &rest;
        Ok(self.text)
    }
}
