//! Log-probabilities of tokens, as the model gives them.
//!
//! From the logits before any penalty, filter or temperature, as in the OpenAI API and vLLM.

use serde::Serialize;
use smelt_backend::{Loops, exp, largest, vectorized};

use super::candidates::sum;
use super::likeliest;
use super::select::{Item, kth_largest};
use crate::error::GenerateError;

/// How probable a token was, and which others were most probable.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprobs {
    /// The token that came.
    pub token: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The most probable tokens with theirs, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

impl TokenLogprobs {
    /// Of `token` and the `top` likeliest tokens, by the `logits` of its position: those that came from the
    /// tokens before it, be they of the prompt or generated.
    ///
    /// # Errors
    /// [`GenerateError::NotFinite`] if a logit is NaN or infinite, or none is finite;
    /// [`GenerateError::NotInVocabulary`] for a token without a logit.
    pub fn new(logits: &[f32], token: u32, top: usize) -> Result<Self, GenerateError> {
        likeliest(logits)?;
        let vocabulary = logits.len();
        let logit =
            *logits.get(token as usize).ok_or(GenerateError::NotInVocabulary { token, vocabulary })?;
        let normalizer = log_sum_exp(logits);
        let logprob = |logit: f32| (f64::from(logit) - normalizer) as f32;
        let top = largest_tokens(logits, top).into_iter().map(|(id, logit)| (id, logprob(logit))).collect();
        Ok(Self { token, logprob: logprob(logit), top })
    }
}

/// The natural logarithms of all probabilities.
///
/// # Errors
/// [`GenerateError::NotFinite`] if a logit is NaN or infinite, or none is finite.
pub(crate) fn log_softmax(logits: &[f32]) -> Result<Vec<f32>, GenerateError> {
    likeliest(logits)?;
    let normalizer = log_sum_exp(logits);
    Ok(logits.iter().map(|logit| (f64::from(*logit) - normalizer) as f32).collect())
}

/// The `count` largest logits with their ids, descending, the lower id first of equals.
pub(crate) fn largest_tokens(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let count = count.min(logits.len());
    if count == 0 {
        return Vec::new();
    }
    let least = kth_largest(logits, count, &mut Vec::new());
    let item = |(index, logit): (u32, &f32)| Item::new(*logit, 0.0, index);
    let mut items: Vec<Item> = (0..).zip(logits).filter(|(_, logit)| **logit >= least).map(item).collect();
    items.sort_unstable_by(Item::compare);
    items.truncate(count);
    items.into_iter().map(|item| (item.index, item.key)).collect()
}

/// The places of sequences, given the log-probabilities of their tokens, from the best by mean
/// log-probability to the worst: the best of several, whatever their lengths. Empty ones come last.
pub fn order_by_mean_logprob(sequences: &[Vec<f32>]) -> Vec<usize> {
    let mean = |logprobs: &Vec<f32>| match logprobs.is_empty() {
        true => f64::NEG_INFINITY,
        false => logprobs.iter().map(|x| f64::from(*x)).sum::<f64>() / logprobs.len() as f64,
    };
    let means: Vec<f64> = sequences.iter().map(mean).collect();
    let mut places: Vec<usize> = (0..sequences.len()).collect();
    places.sort_by(|a, b| means[*b].total_cmp(&means[*a]));
    places
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    vectorized(LogSumExp(logits))
}

struct LogSumExp<'a>(&'a [f32]);

impl Loops for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let largest = largest(self.0);
        f64::from(largest) + sum(self.0, |logit| exp(logit - largest)).ln()
    }
}
