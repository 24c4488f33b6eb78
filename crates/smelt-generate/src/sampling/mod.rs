//! From the logits of one position to a token, on the host.
//!
//! The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p. A token is
//! drawn from what is left, in the order of ids, so that a seed decides everything.

mod filters;
mod options;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use options::SamplingOptions;

use crate::error::GenerateError;
use filters::Candidate;

/// Draws tokens by [`SamplingOptions`], with a generator of its own.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    generator: StdRng,
}

impl Sampler {
    /// A sampler that starts at the seed of `options`.
    ///
    /// # Errors
    /// [`GenerateError::BadOption`] for an option that does not fit.
    pub fn new(options: &SamplingOptions) -> Result<Self, GenerateError> {
        options.validate()?;
        Ok(Self { options: options.clone(), generator: StdRng::seed_from_u64(options.seed) })
    }

    /// The next token: `logits` over the vocabulary, `previous` the tokens so far, prompt included.
    ///
    /// # Errors
    /// [`GenerateError::NotFinite`] if no logit is finite, or one is NaN.
    pub fn sample(&mut self, logits: &[f32], previous: &[u32]) -> Result<u32, GenerateError> {
        if logits.iter().any(|logit| logit.is_nan()) || !logits.iter().any(|logit| logit.is_finite()) {
            return Err(GenerateError::NotFinite);
        }
        if self.options.is_greedy() && self.options.repetition_penalty.is_none() {
            return Ok(likeliest(logits));
        }
        let logits = filters::penalised(logits, previous, self.options.repetition_penalty);
        if self.options.is_greedy() {
            return Ok(likeliest(&logits));
        }
        let candidates = filters::candidates(&logits, &self.options);
        Ok(draw(&candidates, self.generator.random::<f64>()))
    }
}

impl SamplingOptions {
    /// The distribution a token is drawn from: one probability per id, 0 where filtered out.
    ///
    /// # Errors
    /// [`GenerateError::BadOption`] for an option that does not fit.
    pub fn probabilities(&self, logits: &[f32], previous: &[u32]) -> Result<Vec<f32>, GenerateError> {
        self.validate()?;
        let logits = filters::penalised(logits, previous, self.repetition_penalty);
        let mut probabilities = vec![0.0; logits.len()];
        if self.is_greedy() {
            probabilities[likeliest(&logits) as usize] = 1.0;
            return Ok(probabilities);
        }
        for candidate in filters::candidates(&logits, self) {
            probabilities[candidate.id as usize] = candidate.probability as f32;
        }
        Ok(probabilities)
    }
}

/// The id of the largest logit, the lowest of equals.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// The candidate at `point`, uniform in [0, 1), of the line on which probabilities lie end to end.
fn draw(candidates: &[Candidate], point: f64) -> u32 {
    let total: f64 = candidates.iter().map(|candidate| candidate.probability).sum();
    let mut left = point * total;
    for candidate in candidates {
        left -= candidate.probability;
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Rounding can leave a rest: it belongs to the last candidate that can be drawn at all.
    let possible = candidates.iter().rev().find(|candidate| candidate.probability > 0.0);
    possible.map_or(0, |candidate| candidate.id)
}
