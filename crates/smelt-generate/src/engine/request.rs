//! What the engine is asked for, and what it answers.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

use crate::error::GenerateError;
use crate::generate::StopReason;
use crate::grammar::Constraint;
use crate::sampling::{SamplingOptions, TokenLogprobs};

/// One prompt of one model, and who hears of it.
pub struct Request {
    /// Index of the model in the list that the engine was given.
    pub model: usize,
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// What is wanted.
    pub work: Work,
    /// When to give up, waiting or running.
    pub deadline: Option<Instant>,
    /// Hears every [`Event`], on the engine's thread: it must not block.
    pub on_event: Box<dyn FnMut(Event) + Send>,
}

/// What is wanted of a prompt.
#[derive(Debug, Clone)]
pub enum Work {
    /// Tokens that continue it.
    Complete(Box<CompletionOptions>),
    /// The mean of the last hidden states over its positions, scaled to length 1.
    Embed,
}

/// How a prompt is continued.
#[derive(Debug, Clone, Default)]
pub struct CompletionOptions {
    /// Most tokens to generate; 0 reads the prompt only.
    pub max_tokens: usize,
    /// Tokens that end the text; they are not handed out.
    pub stop_tokens: Vec<u32>,
    /// Texts that end it; they are not handed out.
    pub stop: Vec<String>,
    /// How tokens are drawn.
    pub sampling: SamplingOptions,
    /// What the text must follow.
    pub constraint: Option<Constraint>,
    /// Log-probabilities of the tokens handed out, with this many of the likeliest beside each.
    pub logprobs: Option<usize>,
    /// The same of the tokens of the prompt.
    pub prompt_logprobs: Option<usize>,
}

/// What happened to a request. [`Event::End`] or [`Event::Failed`] comes once, and last.
#[derive(Debug)]
pub enum Event {
    /// The prompt was read.
    Prompt(PromptReport),
    /// A token was drawn.
    Token(TokenEvent),
    /// The answer to [`Work::Embed`]: `[hidden_size]`.
    Embedding(Vec<f32>),
    /// It is done.
    End(EndReport),
    /// It cannot be done.
    Failed(GenerateError),
}

/// How the prompt was read.
#[derive(Debug, Clone, Default)]
pub struct PromptReport {
    /// Tokens of it.
    pub tokens: usize,
    /// Of these, the ones whose keys and values were still held from another request.
    pub cached_tokens: usize,
    /// One per token but the first, if they were wanted.
    pub logprobs: Vec<TokenLogprobs>,
}

/// One token.
#[derive(Debug, Clone)]
pub struct TokenEvent {
    /// Its id.
    pub token: u32,
    /// Text that is certain now; empty while a character, or what may be a stop string, is not complete.
    pub text: String,
    /// Its log-probability, if it was wanted.
    pub logprobs: Option<TokenLogprobs>,
}

/// How a request ended, and how fast it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndReport {
    /// Why it ended.
    pub reason: StopReason,
    /// The rest of the text, which was held back for a stop string that did not come.
    #[serde(skip)]
    pub text: String,
    /// Tokens handed out.
    pub generated_tokens: usize,
    /// From the submission to the first pass.
    pub waiting_seconds: f64,
    /// From there to the first token.
    pub prompt_seconds: f64,
    /// From there to the end.
    pub generation_seconds: f64,
    /// Tokens that a draft proposed.
    pub drafted_tokens: usize,
    /// Of these, the ones that were taken.
    pub accepted_tokens: usize,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, prompt, work, deadline, on_event: _ } = self;
        f.debug_struct("Request")
            .field("model", model)
            .field("prompt", prompt)
            .field("work", work)
            .field("deadline", deadline)
            .finish_non_exhaustive()
    }
}
