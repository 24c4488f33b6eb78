//! Which tokens are left to draw from.
//!
//! Each filter looks at the distribution that the ones before it left. Ties are kept together where
//! transformers keeps them: by top-k and typical sampling, not by top-p. No filter drops all.

use smelt_backend::{Loops, largest, vectorized};

use super::candidates::Candidates;
use super::noise::Noise;
use super::options::Filter;
use super::select::{Item, item_reaching, kth_largest, mass_above};
use super::{SamplingOptions, likeliest};
use crate::error::GenerateError;

/// Rounding of sums over a vocabulary is less than this part of them.
const ROUNDING: f64 = 1e-9;

/// Applies the filters of `options`, whose temperature is above 0, to candidates of which one is finite.
pub(super) fn apply(candidates: &mut Candidates, options: &SamplingOptions, noise: Noise) {
    vectorized(Filters { candidates, options, noise, filters: options.filters() });
}

/// The index of the candidate that is drawn from those which the filters of `options` leave, as [`apply`] does.
///
/// # Errors
/// Those of [`likeliest`].
pub(super) fn draw(
    candidates: &mut Candidates,
    options: &SamplingOptions,
    noise: Noise,
) -> Result<usize, GenerateError> {
    let asked = options.filters().iter().rposition(|filter| options.wants(*filter)).map_or(0, |at| at + 1);
    let filters = &options.filters()[..asked];
    let (before, last) = filters.split_at(filters.len() - usize::from(filters.ends_with(&[Filter::TopP])));
    let draw_one = |candidates: &Candidates| {
        likeliest(candidates.logits()).map(|best| noise.draw(candidates.logits(), best, candidates.ids()))
    };
    vectorized(Filters { candidates, options, noise, filters: before });
    let drawn = draw_one(candidates)?;
    // The largest sum of logit and noise among many is that of a few of them too, if it is one of theirs: nearly always
    // nobody has to know the others.
    if last.is_empty() || vectorized(IsInTopP { candidates, options, drawn }) {
        return Ok(drawn);
    }
    vectorized(Filters { candidates, options, noise, filters: last });
    draw_one(candidates)
}

/// Whether top-p keeps the candidate `drawn`, for certain.
struct IsInTopP<'a> {
    candidates: &'a mut Candidates,
    options: &'a SamplingOptions,
    drawn: usize,
}

impl Loops for IsInTopP<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { candidates, options, drawn } = self;
        let total = candidates.weigh();
        let key = candidates.logits()[drawn];
        let as_likely = mass_above(candidates.logits(), candidates.weights(), key.next_down());
        let before = as_likely - f64::from(candidates.weights()[drawn]);
        options.top_p.is_none_or(|p| before < p * total * (1.0 - ROUNDING))
    }
}

struct Filters<'a> {
    candidates: &'a mut Candidates,
    options: &'a SamplingOptions,
    noise: Noise,
    filters: &'a [Filter],
}

impl Loops for Filters<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { candidates, options, noise, filters } = self;
        for filter in filters {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_draw_is_one_from_what_the_filters_leave(
            logits in proptest::collection::vec(-6i8..6, 1..300),
            top_p in prop::sample::select(vec![0.0, 0.2, 0.9, 1.0]),
            top_k in prop::option::of(1usize..40),
            min_p in prop::option::of(0.0f64..0.3),
            order in prop::option::of(Just(Filter::ALL.to_vec()).prop_shuffle()),
            seeds in any::<u64>(),
        ) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let options =
                SamplingOptions { temperature: 0.7, top_p: Some(top_p), top_k, min_p, order, ..Default::default() };
            for position in 0..20 {
                let noise = Noise::new(seeds, position);
                let (mut left, mut drawn_from) = (Candidates::default(), Candidates::default());
                left.reset(&logits);
                apply(&mut left, &options, noise);
                let expected = noise.draw(left.logits(), likeliest(left.logits()).unwrap(), left.ids());
                drawn_from.reset(&logits);
                let drawn = draw(&mut drawn_from, &options, noise).unwrap();
                prop_assert_eq!(drawn_from.id(drawn), left.id(expected));
            }
        }
    }
}
