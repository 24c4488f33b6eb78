//! What is left of the vocabulary, and with which probability.
//!
//! Ties are kept together by top-k, as in transformers. Probabilities are f64: the tail of a vocabulary
//! adds up.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::SamplingOptions;

/// A token that may be drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub id: u32,
    pub logit: f32,
    pub probability: f64,
}

/// The logits after the repetition penalty, which counts every token of `previous` once.
pub(super) fn penalised<'a>(logits: &'a [f32], previous: &[u32], penalty: Option<f64>) -> Cow<'a, [f32]> {
    let Some(penalty) = penalty.map(|penalty| penalty as f32) else { return logits.into() };
    let mut changed = logits.to_vec();
    for id in previous.iter().collect::<BTreeSet<_>>() {
        if let Some(logit) = changed.get_mut(*id as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
    changed.into()
}

/// The tokens that pass all filters, by ascending id, with probabilities that add up to 1.
///
/// The temperature of `options` is above 0 and some logit is finite.
pub(super) fn candidates(logits: &[f32], options: &SamplingOptions) -> Vec<Candidate> {
    // Shifted before they are divided, so that a low temperature cannot make two of them infinite.
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scaled = |logit: &f32| (f64::from(logit - largest) / options.temperature) as f32;
    let mut candidates: Vec<Candidate> = (0..)
        .zip(logits)
        .map(|(id, logit)| Candidate { id, logit: scaled(logit), probability: 0.0 })
        .collect();
    if let Some(k) = options.top_k.filter(|k| *k < candidates.len()) {
        keep_top_k(&mut candidates, k);
    }
    normalise(&mut candidates);
    if let Some(p) = options.top_p.filter(|p| *p < 1.0) {
        keep_top_p(&mut candidates, p);
        normalise(&mut candidates);
    }
    if let Some(ratio) = options.min_p {
        keep_min_p(&mut candidates, ratio);
        normalise(&mut candidates);
    }
    candidates
}

/// Keeps the `k` largest logits and what equals the smallest of them.
fn keep_top_k(candidates: &mut Vec<Candidate>, k: usize) {
    let mut logits: Vec<f32> = candidates.iter().map(|candidate| candidate.logit).collect();
    let (_, smallest, _) = logits.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let smallest = *smallest;
    candidates.retain(|candidate| candidate.logit >= smallest);
}

/// Keeps the likeliest tokens until they reach `p`, at least one.
fn keep_top_p(candidates: &mut Vec<Candidate>, p: f64) {
    // All tokens below this together stay under `1 - p`: most of a vocabulary need not be sorted.
    let negligible = (1.0 - p) / candidates.len() as f64;
    candidates.retain(|candidate| candidate.probability >= negligible);
    candidates.sort_unstable_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
    let mut sum = 0.0;
    let reaches = |candidate: &Candidate| {
        sum += candidate.probability;
        sum >= p
    };
    let last = candidates.iter().position(reaches).unwrap_or(candidates.len() - 1);
    candidates.truncate(last + 1);
    candidates.sort_unstable_by_key(|candidate| candidate.id);
}

/// Drops tokens less probable than `ratio` of the likeliest.
fn keep_min_p(candidates: &mut Vec<Candidate>, ratio: f64) {
    let largest = candidates.iter().map(|candidate| candidate.probability).fold(0.0, f64::max);
    candidates.retain(|candidate| candidate.probability >= ratio * largest);
}

/// Softmax of the candidates' logits.
fn normalise(candidates: &mut [Candidate]) {
    let largest = candidates.iter().map(|candidate| candidate.logit).fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for candidate in &mut *candidates {
        candidate.probability = f64::from(candidate.logit - largest).exp();
        sum += candidate.probability;
    }
    for candidate in candidates {
        candidate.probability /= sum;
    }
}
