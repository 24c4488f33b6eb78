//! From the tokens of a prompt to streamed text, with a model that is in memory.

use std::ops::ControlFlow;

use smelt_backend::Kernels;
use smelt_generate::{GenerateOptions, GenerateReport, StopStrings, generate};
use smelt_model::{Decoder, ModelConfig};
use smelt_text::{StreamDecoder, Tokenizer};

use crate::error::CliError;

/// A tokenized prompt, and how it is continued.
#[derive(Debug)]
pub struct Continuation {
    /// Turns tokens into text.
    pub tokenizer: Tokenizer,
    /// What is continued.
    pub prompt: Vec<u32>,
    /// How tokens are drawn, and how many.
    pub options: GenerateOptions,
    /// Texts that end the generation; they are not handed out.
    pub stop: Vec<String>,
}

impl Continuation {
    /// Continues the prompt; text goes to `on_text` as soon as it is certain, until that breaks.
    ///
    /// # Errors
    /// [`CliError`] if the prompt does not fit the model, or its weights are damaged.
    pub fn run<B: Kernels>(
        &self,
        model: &Decoder<B>,
        config: &ModelConfig,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
        device: &B::Device,
    ) -> Result<(String, GenerateReport), CliError> {
        let mut writer = TextWriter::new(&self.tokenizer, &self.stop, on_text);
        let mut on_token = |token| writer.push(token);
        let report = generate(model, config, &self.prompt, &self.options, &mut on_token, device)?;
        Ok((writer.finish()?, report))
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
