//! The answer to a request for text, while it comes in: its choices, its counts, its line in the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use smelt_generate::TokenLogprobs;
use smelt_generate::engine::{CompletionOptions, Event, PromptReport};

use crate::app::SharedApp;
use crate::choice::{Calls, Choice, Delta};
use crate::error::ApiError;
use crate::generation::{Generation, Part, Wanted};
use crate::identifier::{identifier, now_seconds};
use crate::log::{Figures, timings};
use crate::spelling::Spelling;
use crate::usage::Usage;

/// What the answer is to.
#[derive(Debug)]
pub struct Question {
    /// Index of the model.
    pub model: usize,
    /// What is continued.
    pub prompts: Vec<Arc<[u32]>>,
    /// How.
    pub options: CompletionOptions,
    /// Choices of each prompt, with seeds one after the other.
    pub choices_per_prompt: usize,
    /// That of each prompt's first choice.
    pub first_seed: u64,
    /// How calls are looked for.
    pub calls: Option<Calls>,
    /// For whom, as the request says.
    pub user: Option<String>,
}

/// What became known of a choice.
#[derive(Debug)]
pub enum Told {
    /// Its prompt was read.
    Prompt(PromptReport),
    /// It went on by this token, if it is one, or to its end.
    Delta(Delta, Option<TokenTold>),
}

/// A token as the engine drew it.
#[derive(Debug)]
pub struct TokenTold {
    pub id: u32,
    pub logprobs: Option<TokenLogprobs>,
}

/// An answer that comes in.
#[derive(Debug)]
pub struct Answer {
    pub id: String,
    pub created: u64,
    pub usage: Usage,
    app: SharedApp,
    model: usize,
    generation: Generation,
    choices: Vec<Choice>,
    choices_per_prompt: usize,
    /// Heard before anybody asked.
    early: VecDeque<(usize, Told)>,
    figures: Figures,
}

impl Answer {
    /// Asks the engine, and waits until it has begun, so that what fails at once has a status of its own.
    ///
    /// # Errors
    /// [`ApiError`] of the engine.
    pub async fn begin(
        app: SharedApp,
        question: Question,
        prefix: &str,
        figures: Figures,
    ) -> Result<Self, ApiError> {
        let Question { model, prompts, options, choices_per_prompt, first_seed, calls, user } = question;
        figures.begin(&app.handle.models()[model].name, user.as_deref());
        let options = Arc::new(options);
        let part = |prompt: &Arc<[u32]>, choice: usize| {
            let wanted = Wanted::Text(options.clone(), first_seed.wrapping_add(choice as u64));
            Part { prompt: prompt.clone(), wanted }
        };
        let parts_of = |prompt| (0..choices_per_prompt).map(move |choice| part(prompt, choice));
        let parts: Vec<Part> = prompts.iter().flat_map(parts_of).collect();
        let choices = parts.iter().map(|_| Choice::new(calls)).collect();
        let deadline = Instant::now() + app.options.limits.request_time;
        let generation = Generation::start(&app.handle, model, parts, deadline)?;
        let mut answer = Self {
            id: identifier(prefix),
            created: now_seconds(),
            usage: Usage::default(),
            app,
            model,
            generation,
            choices,
            choices_per_prompt,
            early: VecDeque::new(),
            figures,
        };
        let first = answer.next().await?;
        answer.early.extend(first);
        Ok(answer)
    }

    /// The next news and its choice; `None` when all is told.
    ///
    /// # Errors
    /// [`ApiError`] of the engine.
    pub async fn next(&mut self) -> Result<Option<(usize, Told)>, ApiError> {
        loop {
            if let Some(early) = self.early.pop_front() {
                return Ok(Some(early));
            }
            let Some((choice, event)) = self.generation.next().await? else { return Ok(None) };
            if let Some(told) = self.take(choice, event) {
                return Ok(Some((choice, told)));
            }
        }
    }

    /// News that need not be waited for.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub fn ready(&mut self) -> Result<Option<(usize, Told)>, ApiError> {
        while let Some((choice, event)) = self.generation.ready()? {
            if let Some(told) = self.take(choice, event) {
                return Ok(Some((choice, told)));
            }
        }
        Ok(None)
    }

    fn take(&mut self, index: usize, event: Event) -> Option<Told> {
        let told = match event {
            Event::Prompt(report) => {
                // The prompt of several choices counts once.
                if index.is_multiple_of(self.choices_per_prompt) {
                    self.usage.add_prompt(&report);
                }
                Told::Prompt(report)
            }
            Event::Token(token) => {
                self.usage.add_token();
                let told = TokenTold { id: token.token, logprobs: token.logprobs.clone() };
                Told::Delta(self.choices[index].take(token), Some(told))
            }
            Event::End(report) => {
                timings(&self.id, &report);
                self.app.metrics.choice(&report);
                Told::Delta(self.choices[index].end(&report), None)
            }
            Event::Embedding(_) | Event::Failed(_) => return None,
        };
        self.figures.usage(self.usage);
        if self.choices[index].is_over() {
            self.generation.cancel(index);
        }
        Some(told)
    }

    /// Choices that there will be.
    pub fn choices(&self) -> usize {
        self.choices.len()
    }

    /// Name of the model.
    pub fn model(&self) -> &str {
        &self.app.handle.models()[self.model].name
    }

    /// Spells the model's tokens.
    pub fn spelling(&self) -> &Spelling {
        self.app.spelling(self.model)
    }
}
