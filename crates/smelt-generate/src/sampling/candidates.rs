//! The tokens that may still be drawn, with their logits.

use super::select::Item;

/// Elements that are compared side by side.
pub(super) const LANES: usize = 16;

/// Tokens by ascending id. The buffers are kept from one position to the next.
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
        if self.reduced { self.ids[index] } else { index as u32 }
    }

    /// Drops the candidates for which `keeps`, given index and logit, is false.
    pub(super) fn retain(&mut self, keeps: impl Fn(usize, f32) -> bool) {
        if !self.reduced {
            self.ids.resize(self.logits.len(), 0);
        }
        let mut kept = 0;
        for index in 0..self.logits.len() {
            let (id, logit) = (self.id(index), self.logits[index]);
            self.ids[kept] = id;
            self.logits[kept] = logit;
            kept += usize::from(keeps(index, logit));
        }
        self.logits.truncate(kept);
        self.ids.truncate(kept);
        self.reduced = true;
    }

    /// Computes the softmax of the candidates up to its denominator, which is returned.
    pub(super) fn weigh(&mut self) -> f64 {
        let largest = largest(&self.logits);
        self.weights.clear();
        self.weights.extend(self.logits.iter().map(|logit| (logit - largest).exp()));
        sum(self.weights.iter().copied())
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

/// The sum of `values`, in lanes that do not wait for each other.
pub(super) fn sum(values: impl Iterator<Item = f32>) -> f64 {
    let mut lanes = [0f64; LANES];
    for (at, value) in values.enumerate() {
        lanes[at % LANES] += f64::from(value);
    }
    lanes.iter().sum()
}

/// The largest of `logits`; `-inf` if there are none.
pub(super) fn largest(logits: &[f32]) -> f32 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane = if *logit > *lane { *logit } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |largest, logit| largest.max(*logit))
}
