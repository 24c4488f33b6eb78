//! The host's side of a running request: from logits to tokens, text and events. Names no tensor.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use smelt_text::Tokenizer;

use super::handle::{EngineModel, Shared, Submitted};
use super::request::{CompletionOptions, EndReport, Event, PromptReport, Request, TokenEvent, Work};
use crate::error::GenerateError;
use crate::generate::StopReason;
use crate::grammar::Constraint;
use crate::sampling::{Sampler, TokenLogprobs};
use crate::stop_strings::StopProgress;
use crate::text::TextStream;

/// What a request has become so far.
pub(super) struct Answer {
    on_event: Box<dyn FnMut(Event) + Send>,
    /// What [`Answer::tell`] will say.
    untold: Vec<Event>,
    cancelled: Arc<AtomicBool>,
    deadline: Option<Instant>,
    task: Task,
    /// What is said of the prompt when it was read.
    prompt: PromptReport,
    prompt_tokens: usize,
    context_length: usize,
    submitted: Instant,
    started: Instant,
    prompt_read: Option<Instant>,
    generated: usize,
    drafted: usize,
    accepted: usize,
}

/// What is done with the passes.
enum Task {
    Complete(Box<Completion>),
    /// The sum of the hidden states so far.
    Embed(Vec<f64>),
}

/// A prompt being continued.
struct Completion {
    options: CompletionOptions,
    sampler: Sampler,
    text: Option<TextStream<Arc<Tokenizer>>>,
}

impl Completion {
    fn new(
        options: CompletionOptions,
        prompt_length: usize,
        tokenizer: Option<&Arc<Tokenizer>>,
    ) -> Result<Self, GenerateError> {
        let sampler = Sampler::new(&options.sampling)?.with_prompt_length(prompt_length);
        let text = tokenizer.map(|tokenizer| TextStream::new(tokenizer.clone(), &options.stop));
        Ok(Self { options, sampler, text })
    }
}

impl Answer {
    /// Takes over a request and gives its prompt back for the sequence; `None` if its options do not fit, which it
    /// was told then.
    pub fn new(submitted: Submitted, shared: &Shared) -> Option<(Self, Vec<u32>)> {
        let Submitted { request, cancelled, at } = submitted;
        let Request { model, prompt, work, deadline, mut on_event } = request;
        let EngineModel { tokenizer, config, .. } = &shared.models[model];
        let task = match work {
            Work::Complete(options) => Completion::new(*options, prompt.len(), tokenizer.as_ref())
                .map_err(|error| {
                    shared.lock_statistics().failed += 1;
                    on_event(Event::Failed(error));
                })
                .map(|completion| Task::Complete(Box::new(completion)))
                .ok()?,
            Work::Embed => Task::Embed(Vec::new()),
        };
        let answer = Self {
            on_event,
            untold: Vec::new(),
            cancelled,
            deadline,
            task,
            prompt: PromptReport { tokens: prompt.len(), ..PromptReport::default() },
            prompt_tokens: prompt.len(),
            context_length: config.decoder.context_length(),
            submitted: at,
            started: Instant::now(),
            prompt_read: None,
            generated: 0,
            drafted: 0,
            accepted: 0,
        };
        Some((answer, prompt))
    }

    /// Tells the client what happened since the last time. The answers of a pass are told one after the other, when all
    /// are known: who listens is woken once, and not in the middle of it.
    pub fn tell(&mut self) {
        self.untold.drain(..).for_each(&mut self.on_event);
    }

    /// When it was asked for.
    pub fn submitted(&self) -> Instant {
        self.submitted
    }

    /// Nobody waits for it any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Its time is over.
    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// The hidden states are what is wanted.
    pub fn is_embedding(&self) -> bool {
        matches!(self.task, Task::Embed(_))
    }

    /// The prompt is still being read.
    pub fn is_reading(&self) -> bool {
        self.prompt_read.is_none()
    }

    /// How many of the likeliest tokens are wanted beside each of the prompt's, if any.
    pub fn prompt_logprobs(&self) -> Option<usize> {
        match &self.task {
            Task::Complete(completion) => completion.options.prompt_logprobs,
            Task::Embed(_) => None,
        }
    }

    /// The first `count` tokens of the prompt were held already.
    pub fn skip(&mut self, count: usize) {
        self.prompt.cached_tokens = count;
    }

    /// Why no token may follow `len` so far.
    fn exhausted(&self, len: usize) -> Option<StopReason> {
        match &self.task {
            Task::Complete(completion) if self.generated >= completion.options.max_tokens => {
                Some(StopReason::MaxTokens)
            }
            Task::Complete(_) => (len >= self.context_length).then_some(StopReason::ContextFull),
            Task::Embed(_) => Some(StopReason::MaxTokens),
        }
    }

    /// Tokens that may still be drawn, behind `len` so far.
    pub fn remaining(&self, len: usize) -> usize {
        match &self.task {
            Task::Complete(completion) => {
                (completion.options.max_tokens - self.generated).min(self.context_length - len)
            }
            Task::Embed(_) => 0,
        }
    }

    /// Takes the logits behind a position of the prompt, and the token that follows there.
    pub fn take_prompt_logits(&mut self, logits: &[f32], next: u32) -> Result<(), GenerateError> {
        if let Some(top) = self.prompt_logprobs() {
            self.prompt.logprobs.push(TokenLogprobs::new(logits, next, top)?);
        }
        Ok(())
    }

    /// Takes the hidden states of prompt positions, `[rows, hidden_size]`.
    pub fn take_hidden(&mut self, hidden: &[f32], hidden_size: usize) {
        if let Task::Embed(sum) = &mut self.task {
            sum.resize(hidden_size, 0.0);
            for row in hidden.chunks(hidden_size) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
    }

    /// The prompt of `len` tokens was read. Breaks where that was all.
    pub fn begin(&mut self, len: usize) -> ControlFlow<()> {
        self.prompt_read = Some(Instant::now());
        self.untold.push(Event::Prompt(std::mem::take(&mut self.prompt)));
        if let Task::Embed(sum) = &self.task {
            let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            let embedding = sum.iter().map(|value| (value / length) as f32).collect();
            self.untold.push(Event::Embedding(embedding));
        }
        self.end_if_exhausted(len)
    }

    /// Draws tokens from the rows of `logits`, each `vocab_size` wide: the first is behind the last of `tokens`, the
    /// others behind the tokens `drafted` after it, as long as these are what is drawn.
    ///
    /// Appends what was drawn to `tokens`. Breaks where the text ended.
    pub fn draw(&mut self, logits: &[f32], drafted: &[u32], tokens: &mut Vec<u32>) -> ControlFlow<()> {
        let vocab_size = logits.len() / (drafted.len() + 1);
        self.drafted += drafted.len();
        for (index, logits) in logits.chunks_exact(vocab_size).enumerate() {
            let guess = drafted.get(index).copied();
            self.draw_one(logits, guess, tokens)?;
            if guess != tokens.last().copied() {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// What the request's sampler draws from a draft model's `logits` behind `tokens`.
    pub fn guess(&mut self, logits: &[f32], tokens: &[u32]) -> Option<u32> {
        match &mut self.task {
            Task::Complete(completion) => completion.sampler.sample(logits, tokens).ok(),
            Task::Embed(_) => None,
        }
    }

    fn draw_one(&mut self, logits: &[f32], guess: Option<u32>, tokens: &mut Vec<u32>) -> ControlFlow<()> {
        match self.drawn(logits, tokens) {
            Ok(Some((event, ends))) => {
                tokens.push(event.token);
                self.generated += 1;
                self.accepted += usize::from(guess == Some(event.token));
                self.untold.push(Event::Token(event));
                match ends {
                    Some(reason) => self.end(reason),
                    None => self.end_if_exhausted(tokens.len()),
                }
            }
            Ok(None) => self.end(StopReason::StopToken),
            Err(error) => self.fail(error),
        }
    }

    /// The next token and whether the text ends with it; `None` for a stop token.
    fn drawn(
        &mut self,
        logits: &[f32],
        tokens: &[u32],
    ) -> Result<Option<(TokenEvent, Option<StopReason>)>, GenerateError> {
        let Task::Complete(completion) = &mut self.task else { return Ok(None) };
        let Completion { options, sampler, text } = &mut **completion;
        let allowed = options.constraint.as_mut().map(Constraint::allowed).transpose()?;
        let token = sampler.sample_allowed(logits, tokens, allowed)?;
        if options.stop_tokens.contains(&token) {
            return Ok(None);
        }
        let mut ends = None;
        if let Some(constraint) = &mut options.constraint {
            constraint.accept(token)?;
            ends = constraint.is_finished().then_some(StopReason::StopToken);
        }
        let progress = text.as_mut().map(|text| text.push(token)).transpose()?;
        let StopProgress { text, stopped } = progress.unwrap_or_default();
        if stopped {
            ends = Some(StopReason::StopString);
        }
        let logprobs = options.logprobs.map(|top| TokenLogprobs::new(logits, token, top)).transpose()?;
        Ok(Some((TokenEvent { token, text, logprobs }, ends)))
    }

    fn end_if_exhausted(&mut self, len: usize) -> ControlFlow<()> {
        match self.exhausted(len) {
            Some(reason) => self.end(reason),
            None => ControlFlow::Continue(()),
        }
    }

    /// Says that it is over.
    pub fn fail(&mut self, error: GenerateError) -> ControlFlow<()> {
        self.untold.push(Event::Failed(error));
        ControlFlow::Break(())
    }

    fn end(&mut self, reason: StopReason) -> ControlFlow<()> {
        let text = match &mut self.task {
            Task::Complete(completion) => completion.text.take().map(|text| text.finish().text),
            Task::Embed(_) => None,
        };
        let prompt_read = self.prompt_read.unwrap_or_else(Instant::now);
        let report = EndReport {
            reason,
            text: text.unwrap_or_default(),
            generated_tokens: self.generated,
            waiting_seconds: (self.started - self.submitted).as_secs_f64(),
            prompt_seconds: (prompt_read - self.started).as_secs_f64(),
            generation_seconds: prompt_read.elapsed().as_secs_f64(),
            drafted_tokens: self.drafted,
            accepted_tokens: self.accepted,
        };
        self.untold.push(Event::End(report));
        ControlFlow::Break(())
    }
}
