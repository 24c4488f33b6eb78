//! From tokens to text that can be shown, ending before a stop string.

use std::ops::Deref;

use smelt_text::{StreamDecoder, TextError, Tokenizer};

use crate::stop_strings::{StopProgress, StopStrings};

/// Turns tokens into text and watches for stop strings.
#[derive(Debug, Clone)]
pub struct TextStream<T> {
    decoder: StreamDecoder<T>,
    stops: StopStrings,
    stopped: bool,
}

impl<T: Deref<Target = Tokenizer>> TextStream<T> {
    /// Of `tokenizer`, ending at any of `stop`.
    pub fn new(tokenizer: T, stop: &[String]) -> Self {
        let stops = StopStrings::new(stop.iter().cloned());
        Self { decoder: StreamDecoder::new(tokenizer), stops, stopped: false }
    }

    /// Takes the next token; gives the text that is certain with it, which may be none.
    ///
    /// # Errors
    /// If the decoder of the tokenizer refuses the tokens.
    pub fn push(&mut self, token: u32) -> Result<StopProgress, TextError> {
        let piece = self.decoder.push(token)?.unwrap_or_default();
        let progress = self.stops.push(&piece);
        self.stopped |= progress.stopped;
        Ok(progress)
    }

    /// What was held back, at the end of the text: nothing behind a stop string.
    pub fn finish(mut self) -> StopProgress {
        if self.stopped {
            return StopProgress { text: String::new(), stopped: true };
        }
        let piece = self.decoder.finish().unwrap_or_default();
        let mut progress = self.stops.push(&piece);
        if !progress.stopped {
            progress.text += &self.stops.finish();
        }
        progress
    }
}
