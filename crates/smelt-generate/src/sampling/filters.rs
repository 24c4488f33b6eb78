//! Which tokens are left to draw from.
//!
//! Each filter looks at the distribution that the ones before it left. Ties are kept together where
//! transformers keeps them: by top-k and typical sampling, not by top-p. No filter drops all.

use smelt_backend::{Loops, largest, vectorized};

use super::SamplingOptions;
use super::candidates::Candidates;
use super::noise::Noise;
use super::options::Filter;
use super::select::{Item, item_reaching, kth_largest};

/// Applies the filters of `options`, whose temperature is above 0, to candidates of which one is finite.
pub(super) fn apply(candidates: &mut Candidates, options: &SamplingOptions, noise: Noise) {
    vectorized(Filters { candidates, options, noise });
}

struct Filters<'a> {
    candidates: &'a mut Candidates,
    options: &'a SamplingOptions,
    noise: Noise,
}

impl Loops for Filters<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { candidates, options, noise } = self;
        for filter in options.filters() {
            match filter {
                Filter::Temperature => divide(candidates, options.temperature),
                Filter::TopK => {
                    if let Some(k) = options.top_k.filter(|k| (1..candidates.len()).contains(k)) {
                        keep_top_k(candidates, k);
                    }
                }
                Filter::TopP => {
                    if let Some(p) = options.top_p.filter(|p| *p < 1.0) {
                        keep_top_p(candidates, p);
                    }
                }
                Filter::MinP => {
                    if let Some(ratio) = options.min_p.filter(|ratio| *ratio > 0.0) {
                        keep_min_p(candidates, ratio);
                    }
                }
                Filter::TypicalP => {
                    if let Some(p) = options.typical_p.filter(|p| *p < 1.0) {
                        keep_typical(candidates, p);
                    }
                }
                Filter::Xtc => {
                    if options.xtc_probability.is_some_and(|probability| noise.chance(probability)) {
                        exclude_top_choices(candidates, options.xtc_threshold());
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn divide(candidates: &mut Candidates, temperature: f64) {
    if temperature == 1.0 {
        return;
    }
    // Neither 0 nor infinite: the largest and forbidden logits would become NaN.
    let temperature = (temperature as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    // Shifted before they are divided, so that a low temperature makes no two of them infinite.
    let largest = largest(candidates.logits());
    for logit in candidates.logits_mut() {
        *logit = (*logit - largest) / temperature;
    }
}

/// Keeps the `k` largest logits and what equals the smallest of them.
#[inline(always)]
fn keep_top_k(candidates: &mut Candidates, k: usize) {
    let mut buffer = std::mem::take(&mut candidates.buffer);
    let smallest = kth_largest(candidates.logits(), k, &mut buffer);
    candidates.buffer = buffer;
    candidates.retain(|_, logit| logit >= smallest);
}

/// Keeps the likeliest tokens until they reach `p`, at least one.
#[inline(always)]
fn keep_top_p(candidates: &mut Candidates, p: f64) {
    let total = candidates.weigh();
    let mut items = std::mem::take(&mut candidates.items);
    let last = item_reaching(candidates.logits(), candidates.weights(), p * total, &mut items);
    if let Some(Item { key, index, .. }) = last {
        candidates.retain(|at, logit| (logit > key) | ((logit == key) & (at <= index)));
    }
    candidates.items = items;
}

/// Drops tokens less probable than `ratio` of the likeliest.
#[inline(always)]
fn keep_min_p(candidates: &mut Candidates, ratio: f64) {
    let border = largest(candidates.logits()) + ratio.ln() as f32;
    candidates.retain(|_, logit| logit >= border);
}

/// Keeps the tokens whose surprise is nearest to the entropy until they reach `p`, at least one.
#[inline(always)]
fn keep_typical(candidates: &mut Candidates, p: f64) {
    let total = candidates.weigh();
    let terms = candidates.logits().iter().zip(candidates.weights()).filter(|(_, weight)| **weight > 0.0);
    let mean = terms.map(|(logit, weight)| f64::from(*logit) * f64::from(*weight)).sum::<f64>() / total;
    // Surprise is the log of the denominator less the logit, and entropy its mean: the log cancels.
    let closeness = move |logit: f32| -((f64::from(logit) - mean).abs() as f32);
    let (mut items, mut keys) =
        (std::mem::take(&mut candidates.items), std::mem::take(&mut candidates.buffer));
    keys.resize(candidates.len(), 0.0);
    for (key, logit) in keys.iter_mut().zip(candidates.logits()) {
        *key = closeness(*logit);
    }
    if let Some(last) = item_reaching(&keys, candidates.weights(), p * total, &mut items) {
        candidates.retain(|_, logit| closeness(logit) >= last.key);
    }
    (candidates.items, candidates.buffer) = (items, keys);
}

/// Of several tokens that reach the probability `threshold`, keeps the least likely; the rest of the
/// vocabulary stays.
#[inline(always)]
fn exclude_top_choices(candidates: &mut Candidates, threshold: f64) {
    let least = (threshold * candidates.weigh()) as f32;
    let good =
        candidates.weights().iter().enumerate().filter(|(_, weight)| **weight >= least && **weight > 0.0);
    // Of equals the last.
    let Some((kept, _)) = good.reduce(|a, b| if b.1 <= a.1 { b } else { a }) else { return };
    let border = candidates.logits()[kept];
    candidates.retain(|index, logit| logit < border || index as usize == kept);
}
