//! The body of `/v1/completions`, and what the engine is asked for it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use smelt_generate::engine::CompletionOptions;

use crate::answer::Question;
use crate::app::App;
use crate::constraint::constrain;
use crate::error::ApiError;
use crate::fields::{GENERATION_FIELDS, GenerationFields, MOST_ALTERNATIVES};
use crate::request::{ApiRequest, refuse, take, typed};
use crate::shape::{Shape, ShapeFields};
use crate::tokens::{Prompt, Prompts};

const REFUSED: [(&str, &str); 1] =
    [("suffix", "a model that writes from left to right knows no text behind its own")];

/// As OpenAI has it.
const DEFAULT_MAX_TOKENS: usize = 16;
const MOST_TRIED: usize = 128;
/// Choices that a request may ask for, of all its prompts.
const MOST_PARTS: usize = 4096;

/// Prompts to continue.
#[derive(Debug)]
pub struct CompletionRequest {
    pub generation: GenerationFields,
    pub shape: Shape,
    pub fields: CompletionFields,
}

/// The fields that only completions have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionFields {
    pub prompt: Prompts,
    #[serde(default)]
    pub echo: bool,
    pub logprobs: Option<usize>,
    pub best_of: Option<usize>,
}

impl ApiRequest for CompletionRequest {
    fn from_fields(mut fields: Map<String, Value>) -> Result<Self, ApiError> {
        refuse(&fields, &REFUSED)?;
        let generation: GenerationFields = typed(take(&mut fields, &GENERATION_FIELDS))?;
        let shape = ShapeFields::take(&mut fields)?;
        let request = Self { generation, shape, fields: typed(fields)? };
        request.validate()?;
        Ok(request)
    }
}

/// What is asked, and the prompts as they came, for those who want to hear them again.
#[derive(Debug)]
pub struct Prepared {
    pub question: Question,
    /// Texts and tokens of the prompts.
    pub prompts: Vec<(String, Arc<[u32]>)>,
}

impl CompletionRequest {
    fn validate(&self) -> Result<(), ApiError> {
        self.generation.validate()?;
        let CompletionFields { logprobs, best_of, echo, .. } = &self.fields;
        if logprobs.is_some_and(|count| count > MOST_ALTERNATIVES) {
            let message = format!("`logprobs` must lie between 0 and {MOST_ALTERNATIVES}");
            return Err(ApiError::invalid("logprobs", message));
        }
        if let Some(tried) = best_of {
            if !(self.choices()..=MOST_TRIED).contains(tried) {
                let message = format!("`best_of` must lie between `n` and {MOST_TRIED}");
                return Err(ApiError::invalid("best_of", message));
            }
            if self.generation.stream && *tried > self.choices() {
                return Err(ApiError::unsupported(
                    "best_of",
                    "the best is known at the end only, not in a stream",
                ));
            }
        }
        if self.generation.max_tokens == Some(0) && !echo {
            return Err(ApiError::invalid("max_tokens", "`max_tokens` may be 0 with `echo` only"));
        }
        Ok(())
    }

    /// Choices of each prompt that are handed out.
    pub fn choices(&self) -> usize {
        self.generation.n.unwrap_or(1)
    }

    /// Choices of each prompt that are made.
    pub fn tried(&self) -> usize {
        self.fields.best_of.unwrap_or(self.choices())
    }

    /// Tokenizes: too long for the thread that serves connections.
    ///
    /// # Errors
    /// [`ApiError`] for a prompt that does not fit.
    pub fn prepare(&self, app: &App) -> Result<Prepared, ApiError> {
        let model = app.model(self.generation.model.as_deref())?;
        let CompletionFields { echo, logprobs, .. } = self.fields;
        // The best of several is the likeliest, so that it has to be known how likely each is.
        let logprobs = logprobs.or((self.tried() > self.choices()).then_some(0));
        if self.fields.logprobs.is_some() {
            // Here it delays nobody else.
            app.spelling(model.index);
        }
        let options = CompletionOptions {
            max_tokens: self.generation.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            stop_tokens: self.generation.stop_tokens(&model.served.stop_tokens),
            stop: self.generation.stops(),
            sampling: self.generation.sampling()?,
            logprobs,
            prompt_logprobs: self.fields.logprobs.filter(|_| echo),
            ..CompletionOptions::default()
        };
        let options = constrain(app, options, &self.shape, model)?;
        let mut prompts = Vec::new();
        for (param, prompt) in self.fields.prompt.clone().split("prompt")? {
            let tokens = prompt.tokens(model, &param)?;
            let text = match prompt {
                Prompt::Text(text) => text,
                Prompt::Ids(_) if !echo => String::new(),
                Prompt::Ids(ids) => model.served.tokenizer.decode(&ids)?,
            };
            prompts.push((text, Arc::from(tokens)));
        }
        if prompts.len() * self.tried() > MOST_PARTS {
            let message = format!("prompts times choices are at most {MOST_PARTS}");
            return Err(ApiError::invalid("n", message));
        }
        let question = Question {
            model: model.index,
            prompts: prompts.iter().map(|(_, tokens)| Arc::clone(tokens)).collect(),
            options,
            choices_per_prompt: self.tried(),
            first_seed: self.generation.first_seed(),
            calls: None,
            user: self.generation.user.clone(),
        };
        Ok(Prepared { question, prompts })
    }
}
