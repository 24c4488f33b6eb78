//! From the tokens of a prompt to streamed text, with a model that is in memory.

use std::ops::ControlFlow;

use smelt_backend::Kernels;
use smelt_generate::{GenerateOptions, GenerateReport, StopReason, TextStream, generate};
use smelt_model::{Decoder, ModelConfig};
use smelt_text::Tokenizer;

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
        let mut stream = TextStream::new(&self.tokenizer, &self.stop);
        let (mut text, mut stopped, mut failure) = (String::new(), false, None);
        let mut on_token = |token| match stream.push(token) {
            // Part of a character gives no text, but the caller may want to stop here.
            Ok(progress) => {
                text += &progress.text;
                stopped = progress.stopped;
                on_text(&progress.text)?;
                if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        };
        let mut report = generate(model, config, &self.prompt, &self.options, &mut on_token, device)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if stopped {
            report.stop_reason = StopReason::StopString;
        }
        let rest = stream.finish().text;
        // The text has ended: nothing is left to break off.
        let _ = on_text(&rest);
        Ok((text + &rest, report))
    }
}
