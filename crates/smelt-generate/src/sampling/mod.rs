//! From the logits of one position to a token, on the host.
//!
//! First single logits change ([`adjustments`]), then [`filters`] drop tokens, in the order of transformers;
//! [`noise`] draws from what is left. Time goes into few passes over the vocabulary: nothing is sorted as a
//! whole, and exponentials are taken of what decides.

mod adjustments;
mod candidates;
mod filters;
mod history;
mod logprobs;
mod mask;
mod noise;
mod options;
mod select;

use std::cell::RefCell;

pub use logprobs::{TokenLogprobs, order_by_mean_logprob};
pub(crate) use logprobs::{largest_tokens, log_softmax};
pub use mask::TokenMask;
pub use options::{Filter, SamplingOptions};

use smelt_backend::{Loops, vectorized};

use crate::error::GenerateError;
use candidates::Candidates;
use history::History;
use noise::Noise;

/// Logits that are compared at a time: within one block, the position of the largest is looked for.
const BLOCK: usize = 512;

thread_local! {
    /// Buffers of a vocabulary's size, which all samplers of a thread share: one draws at a time, a server has
    /// many, and what was just used is still in the processor's cache.
    static CANDIDATES: RefCell<Candidates> = RefCell::default();
}

/// Draws the tokens of one sequence by [`SamplingOptions`].
///
/// What is drawn depends on the options, the logits and the tokens before, on nothing else: a sampler can go
/// back, and two that are asked the same give the same. It keeps counts of tokens only.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    prompt_length: Option<usize>,
    history: History,
}

impl Sampler {
    /// A sampler for one sequence.
    ///
    /// # Errors
    /// [`GenerateError::BadOption`] for an option that does not fit.
    pub fn new(options: &SamplingOptions) -> Result<Self, GenerateError> {
        options.validate()?;
        Ok(Self { options: options.clone(), prompt_length: None, history: History::default() })
    }

    /// With a prompt of `tokens` tokens, whose repetition costs no presence or frequency penalty. Otherwise
    /// the prompt is what comes before the first token that is drawn.
    #[must_use]
    pub fn with_prompt_length(mut self, tokens: usize) -> Self {
        self.prompt_length = Some(tokens);
        self
    }

    /// The next token: `logits` over the vocabulary, `tokens` those so far, prompt included.
    ///
    /// # Errors
    /// [`GenerateError::NotFinite`] if no logit is finite, or one is NaN or infinite;
    /// [`GenerateError::NothingAllowed`] if the options forbid every token; [`GenerateError::BadOption`] for
    /// a `logit_bias` beyond the vocabulary.
    pub fn sample(&mut self, logits: &[f32], tokens: &[u32]) -> Result<u32, GenerateError> {
        self.sample_allowed(logits, tokens, None)
    }

    /// As [`Sampler::sample`], from the tokens of a mask.
    ///
    /// # Errors
    /// Those of [`Sampler::sample`].
    pub fn sample_allowed(
        &mut self,
        logits: &[f32],
        tokens: &[u32],
        allowed: Option<&TokenMask>,
    ) -> Result<u32, GenerateError> {
        let best = likeliest(logits)?;
        if self.options.is_greedy() && allowed.is_none() && !self.options.has_adjustments() {
            return Ok(best as u32);
        }
        CANDIDATES.with_borrow_mut(|candidates| {
            self.adjust(candidates, logits, tokens, allowed)?;
            let mut best = likeliest(candidates.logits()).map_err(|_| GenerateError::NothingAllowed)?;
            if !self.options.is_greedy() {
                let noise = Noise::new(self.options.seed, tokens.len());
                best = filters::draw(candidates, &self.options, noise)?;
            }
            Ok(candidates.id(best))
        })
    }

    /// The distribution a token is drawn from: one probability per id, 0 where filtered out.
    ///
    /// # Errors
    /// Those of [`Sampler::sample`].
    pub fn probabilities(
        &mut self,
        logits: &[f32],
        tokens: &[u32],
        allowed: Option<&TokenMask>,
    ) -> Result<Vec<f32>, GenerateError> {
        likeliest(logits)?;
        CANDIDATES.with_borrow_mut(|candidates| {
            self.adjust(candidates, logits, tokens, allowed)?;
            let best = likeliest(candidates.logits()).map_err(|_| GenerateError::NothingAllowed)?;
            let mut probabilities = vec![0.0; logits.len()];
            if self.options.is_greedy() {
                probabilities[best] = 1.0;
                return Ok(probabilities);
            }
            filters::apply(candidates, &self.options, Noise::new(self.options.seed, tokens.len()));
            for (id, probability) in candidates.probabilities() {
                probabilities[id as usize] = probability as f32;
            }
            Ok(probabilities)
        })
    }

    /// `scores` over the vocabulary after biases, penalties and forbidden n-grams.
    ///
    /// # Errors
    /// [`GenerateError::BadOption`] for a `logit_bias` beyond the vocabulary.
    pub(crate) fn adjusted(&mut self, scores: &[f32], tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        CANDIDATES.with_borrow_mut(|candidates| {
            self.adjust(candidates, scores, tokens, None)?;
            Ok(candidates.logits().to_vec())
        })
    }

    /// Fills `candidates` with the logits as they enter the filters.
    fn adjust(
        &mut self,
        candidates: &mut Candidates,
        logits: &[f32],
        tokens: &[u32],
        allowed: Option<&TokenMask>,
    ) -> Result<(), GenerateError> {
        let options = &self.options;
        candidates.reset(logits);
        let logits = candidates.logits_mut();
        adjustments::add_biases(logits, options)?;
        if options.counts_tokens() {
            let prompt_length = *self.prompt_length.get_or_insert(tokens.len());
            self.history.follow(tokens, prompt_length);
            adjustments::penalise(logits, &self.history, options);
        }
        if let Some(size) = options.ngram_size() {
            adjustments::forbid_repeated_ngrams(logits, tokens, size);
        }
        if let Some(allowed) = allowed {
            adjustments::forbid_others(logits, allowed);
        }
        Ok(())
    }
}

/// The index of the largest logit, the lowest of equals.
///
/// # Errors
/// [`GenerateError::NotFinite`] if a logit is NaN or infinite, or none is finite.
fn likeliest(logits: &[f32]) -> Result<usize, GenerateError> {
    vectorized(Likeliest(logits))
}

struct Likeliest<'a>(&'a [f32]);

impl Loops for Likeliest<'_> {
    type Output = Result<usize, GenerateError>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self(logits) = self;
        let (mut best, mut largest) = (0, f32::NEG_INFINITY);
        for (number, block) in logits.chunks(BLOCK).enumerate() {
            let in_block = smelt_backend::largest(block);
            if in_block > largest {
                (best, largest) = (number, in_block);
            }
            let mut any_nan = false;
            for logit in block {
                any_nan |= logit.is_nan();
            }
            if any_nan {
                return Err(GenerateError::NotFinite);
            }
        }
        let start = best * BLOCK;
        let found = logits[start..].iter().position(|logit| *logit == largest).map(|at| start + at);
        found.filter(|_| largest.is_finite()).ok_or(GenerateError::NotFinite)
    }
}
