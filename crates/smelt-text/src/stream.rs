//! Decoding token by token, for text shown while it is generated.
//!
//! A character may span several tokens and a token's text may depend on its neighbours, so the decoder
//! keeps the last tokens, decodes them together and gives out what can no longer change.

use std::ops::Deref;

use crate::{TextError, Tokenizer};

/// Turns ids into text one at a time; the parts put together equal [`Tokenizer::decode`] of all ids.
#[derive(Debug, Clone)]
pub struct StreamDecoder<T> {
    tokenizer: T,
    /// Tokens that still matter: `context` whose text was given out, then the later ones.
    window: Vec<u32>,
    context: usize,
    /// How much of the text of `window` was given out, in bytes.
    given_bytes: usize,
    /// What follows it and may still change.
    pending: String,
}

impl<T: Deref<Target = Tokenizer>> StreamDecoder<T> {
    /// With a reference to a tokenizer, or a share in one.
    pub fn new(tokenizer: T) -> Self {
        Self { tokenizer, window: Vec::new(), context: 0, given_bytes: 0, pending: String::new() }
    }

    /// Takes the next id; gives the text that is final with it, if any.
    ///
    /// # Errors
    /// If the decoder of the tokenizer refuses the tokens.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TextError> {
        if self.window.is_empty()
            && let Some(text) = self.tokenizer.own_text(id)
        {
            return Ok(Some(text.to_owned()));
        }
        if !self.tokenizer.has_text(id) {
            return Ok(None);
        }
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window)?;
        let fresh = text.get(self.given_bytes..).unwrap_or_default();
        let final_bytes = if self.tokenizer.is_fallback_byte(id) {
            // One invalid byte turns its whole run of fallback bytes into U+FFFD.
            0
        } else {
            // An incomplete character shows as one U+FFFD at the end; later bytes may complete it.
            fresh.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(fresh).len()
        };
        let (ready, pending) = fresh.split_at(final_bytes);
        let (ready, pending) = (ready.to_owned(), pending.to_owned());
        self.given_bytes += ready.len();
        self.pending = pending;
        if ready.is_empty() {
            return Ok(None);
        }
        if self.pending.is_empty() {
            self.forget_all_but_context()?;
        }
        Ok(Some(ready))
    }

    /// The text held back for a character that never came to its end.
    pub fn finish(self) -> Option<String> {
        (!self.pending.is_empty()).then_some(self.pending)
    }

    /// Keeps the tokens of the last step as the context of the next, where tokens have one.
    fn forget_all_but_context(&mut self) -> Result<(), TextError> {
        if self.tokenizer.decodes_bytes_alone() {
            self.window.clear();
            self.given_bytes = 0;
            return Ok(());
        }
        self.window.drain(..self.context);
        self.context = self.window.len();
        self.given_bytes = self.tokenizer.decode(&self.window)?.len();
        Ok(())
    }
}
