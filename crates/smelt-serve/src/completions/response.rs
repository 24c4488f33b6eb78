//! The choices of a completion, and the answer with all of them.

use std::sync::Arc;

use serde::Serialize;

use super::request::CompletionRequest;
use crate::answer::{Answer, Told};
use crate::choice::FinishReason;
use crate::error::ApiError;
use crate::logprobs::CompletionLogprobs;
use crate::usage::Usage;

/// `text_completion`.
#[derive(Debug, Serialize)]
pub struct Completion<'a> {
    pub id: &'a str,
    pub object: &'static str,
    pub created: u64,
    pub model: &'a str,
    pub choices: Vec<CompletionChoice>,
    /// Null in all events of a stream but the last, and absent where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// A continuation, or a piece of one.
#[derive(Debug, Serialize)]
pub struct CompletionChoice {
    pub index: usize,
    pub text: String,
    pub logprobs: Option<CompletionLogprobs>,
    pub finish_reason: Option<FinishReason>,
}

/// What is told of the choices besides the text.
#[derive(Debug)]
pub struct Texts {
    echo: bool,
    with_logprobs: bool,
    tried: usize,
    /// Texts and tokens of the prompts.
    prompts: Vec<(String, Arc<[u32]>)>,
    /// Characters of each choice so far, as its tokens spell them.
    offsets: Vec<usize>,
}

impl Texts {
    pub fn new(request: &CompletionRequest, prompts: Vec<(String, Arc<[u32]>)>) -> Self {
        let tried = request.tried();
        Self {
            echo: request.fields.echo,
            with_logprobs: request.fields.logprobs.is_some(),
            tried,
            offsets: vec![0; prompts.len() * tried],
            prompts,
        }
    }

    /// What there is to say of choice `index` after `told`.
    pub fn piece(&mut self, index: usize, told: Told, answer: &Answer) -> CompletionChoice {
        let mut logprobs = self.with_logprobs.then(CompletionLogprobs::default);
        let mut piece = CompletionChoice { index, text: String::new(), logprobs: None, finish_reason: None };
        let offset = &mut self.offsets[index];
        match told {
            Told::Prompt(report) if self.echo => {
                let (text, tokens) = &self.prompts[index / self.tried];
                piece.text.clone_from(text);
                if let Some(logprobs) = &mut logprobs {
                    // The first token follows nothing, so that nothing is known of it.
                    let of_tokens = std::iter::once(None).chain(report.logprobs.iter().map(Some));
                    for (token, found) in tokens.iter().zip(of_tokens) {
                        *offset = logprobs.push(*token, found, *offset, answer.spelling());
                    }
                }
            }
            Told::Prompt(_) => {}
            Told::Delta(delta, token) => {
                piece.text = delta.text;
                piece.finish_reason = delta.finish;
                if let Some((logprobs, token)) = logprobs.as_mut().zip(token) {
                    *offset = logprobs.push(token.id, token.logprobs.as_ref(), *offset, answer.spelling());
                }
            }
        }
        piece.logprobs = logprobs;
        piece
    }
}

impl CompletionChoice {
    /// There is something to tell.
    pub fn is_worth_telling(&self) -> bool {
        let has_logprobs = self.logprobs.as_ref().is_some_and(|logprobs| !logprobs.is_empty());
        !self.text.is_empty() || has_logprobs || self.finish_reason.is_some()
    }

    fn extend(&mut self, piece: Self) {
        self.text += &piece.text;
        if let Some((logprobs, more)) = self.logprobs.as_mut().zip(piece.logprobs) {
            logprobs.extend(more);
        }
        self.finish_reason = piece.finish_reason.or(self.finish_reason);
    }
}

/// How likely a choice is so far.
#[derive(Debug, Clone, Copy, Default)]
struct Likelihood {
    sum: f64,
    tokens: usize,
}

impl Likelihood {
    fn mean(self) -> f64 {
        if self.tokens == 0 { f64::NEG_INFINITY } else { self.sum / self.tokens as f64 }
    }
}

/// Waits for the end of `answer`, as JSON: of each prompt the `kept` likeliest choices.
///
/// # Errors
/// [`ApiError`] of the engine.
pub async fn whole(mut answer: Answer, mut texts: Texts, kept: usize) -> Result<serde_json::Value, ApiError> {
    let empty = |index| CompletionChoice {
        index,
        text: String::new(),
        logprobs: texts.with_logprobs.then(CompletionLogprobs::default),
        finish_reason: None,
    };
    let mut choices: Vec<CompletionChoice> = (0..answer.choices()).map(empty).collect();
    let mut likelihoods = vec![Likelihood::default(); choices.len()];
    while let Some((index, told)) = answer.next().await? {
        if let Told::Delta(_, Some(token)) = &told {
            let likelihood = &mut likelihoods[index];
            likelihood.tokens += 1;
            likelihood.sum += token.logprobs.as_ref().map_or(0.0, |found| f64::from(found.logprob));
        }
        let piece = texts.piece(index, told, &answer);
        choices[index].extend(piece);
    }
    let choices = likeliest(choices, &likelihoods, texts.tried, kept);
    let Answer { id, created, usage, .. } = &answer;
    let completion = Completion {
        id,
        object: "text_completion",
        created: *created,
        model: answer.model(),
        choices,
        usage: Some(Some(*usage)),
    };
    serde_json::to_value(&completion).map_err(|error| ApiError::internal(error.to_string()))
}

/// Of every `tried` choices the `kept` likeliest, best first, numbered anew.
fn likeliest(
    choices: Vec<CompletionChoice>,
    likelihoods: &[Likelihood],
    tried: usize,
    kept: usize,
) -> Vec<CompletionChoice> {
    if kept == tried {
        return choices;
    }
    let mut best = Vec::new();
    let mut choices = choices.into_iter().zip(likelihoods).peekable();
    while choices.peek().is_some() {
        let mut of_prompt: Vec<_> = choices.by_ref().take(tried).collect();
        of_prompt.sort_by(|(_, a), (_, b)| b.mean().total_cmp(&a.mean()));
        best.extend(of_prompt.into_iter().take(kept).map(|(choice, _)| choice));
    }
    best.iter_mut().enumerate().for_each(|(index, choice)| choice.index = index);
    best
}
