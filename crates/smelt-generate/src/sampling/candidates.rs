//! The tokens that may still be drawn, with their logits.

use smelt_backend::{exp, largest};

use super::select::Item;

/// Elements that are compared side by side.
pub(super) const LANES: usize = 16;

/// Forbidden tokens are left out where one in so many is left.
const FEWER: usize = 8;

/// Tokens by ascending id; forbidden ones may be among them, with a logit of `-inf`. The buffers are kept from one
/// position to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Candidates {
    logits: Vec<f32>,
    /// Ids of `logits`; unused as long as nothing was left out, when an id is its index.
    ids: Vec<u32>,
    reduced: bool,
    /// `exp(logit - largest)` of each, after [`Candidates::weigh`].
    weights: Vec<f32>,
    /// Scratch space of the filters.
    pub buffer: Vec<f32>,
    /// Scratch space of the filters.
    pub items: Vec<Item>,
}

impl Candidates {
    /// Starts over with a whole vocabulary.
    pub(super) fn reset(&mut self, logits: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.reduced = false;
    }

    pub(super) fn len(&self) -> usize {
        self.logits.len()
    }

    pub(super) fn logits(&self) -> &[f32] {
        &self.logits
    }

    pub(super) fn logits_mut(&mut self) -> &mut [f32] {
        &mut self.logits
    }

    /// The id of candidate `index`.
    pub(super) fn id(&self, index: usize) -> u32 {
        self.ids().map_or(index as u32, |ids| ids[index])
    }

    /// The ids of all; none if they are the indices.
    pub(super) fn ids(&self) -> Option<&[u32]> {
        self.reduced.then_some(&self.ids)
    }

    /// Drops the candidates for which `keeps`, given index and logit, is false.
    #[inline(always)]
    pub(super) fn retain(&mut self, keeps: impl Fn(u32, f32) -> bool) {
        let mut kept = 0;
        for (index, logit) in (0..).zip(&mut self.logits) {
            // Without a branch, which a flat distribution would mispredict.
            let keep = keeps(index, *logit);
            *logit = if keep { *logit } else { f32::NEG_INFINITY };
            kept += u32::from(keep);
        }
        if (kept as usize) < self.logits.len() / FEWER {
            self.leave_out_forbidden();
        }
    }

    /// Drops what no longer can be drawn.
    #[inline(always)]
    fn leave_out_forbidden(&mut self) {
        if !self.reduced {
            self.ids.clear();
            self.ids.extend(0..self.logits.len() as u32);
            self.reduced = true;
        }
        let mut kept = 0;
        for start in (0..self.logits.len()).step_by(LANES) {
            let end = self.logits.len().min(start + LANES);
            if largest(&self.logits[start..end]) == f32::NEG_INFINITY {
                continue;
            }
            for index in start..end {
                if self.logits[index] > f32::NEG_INFINITY {
                    (self.ids[kept], self.logits[kept]) = (self.ids[index], self.logits[index]);
                    kept += 1;
                }
            }
        }
        self.logits.truncate(kept);
        self.ids.truncate(kept);
    }

    /// Computes the softmax of the candidates up to its denominator, which is returned.
    #[inline(always)]
    pub(super) fn weigh(&mut self) -> f64 {
        let largest = largest(&self.logits);
        self.weights.resize(self.logits.len(), 0.0);
        for (weight, logit) in self.weights.iter_mut().zip(&self.logits) {
            *weight = exp(*logit - largest);
        }
        sum(&self.weights, |weight| weight)
    }

    /// What [`Candidates::weigh`] computed.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Each candidate's id and probability.
    pub(super) fn probabilities(&self) -> impl Iterator<Item = (u32, f64)> {
        let largest = largest(&self.logits);
        let weight = move |logit: &f32| f64::from(logit - largest).exp();
        let total: f64 = self.logits.iter().map(weight).sum();
        self.logits.iter().enumerate().map(move |(index, logit)| (self.id(index), weight(logit) / total))
    }
}

/// `sum f(x)`, in lanes that do not wait for each other.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    sum2(x, x, |x, _| f(x))
}

/// `sum f(x, y)`, in lanes that do not wait for each other.
#[inline(always)]
pub(super) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let ((x_chunks, x_rest), (y_chunks, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0f64; LANES];
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f64::from(f(x[lane], y[lane]));
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += f64::from(f(*x, *y));
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_kept_keep_their_ids_be_they_few_or_many() {
        let logits: Vec<f32> =
            (0..100).map(|id| if id == 3 { f32::NEG_INFINITY } else { id as f32 }).collect();
        for every in [2, 30] {
            let mut candidates = Candidates::default();
            candidates.reset(&logits);
            for factor in [1, 2] {
                candidates.retain(|_, logit| (logit as u32).is_multiple_of(factor * every));
                let kept = (0..candidates.len()).filter(|at| candidates.logits()[*at] > f32::NEG_INFINITY);
                let kept: Vec<u32> = kept.map(|at| candidates.id(at)).collect();
                let expected = (0..100u32).filter(|id| *id != 3 && id.is_multiple_of(factor * every));
                assert_eq!(kept, expected.collect::<Vec<_>>());
            }
        }
    }
}
