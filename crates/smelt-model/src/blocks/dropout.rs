//! Seeds for the dropout of one forward pass.

use burn::tensor::Tensor;
use smelt_backend::Kernels;

use crate::init::mixed;

/// The dropout of one forward pass in training.
///
/// Every place that drops derives a seed of its own from this one and its number, not from a running
/// counter: a block that is run again for its gradient drops the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutStream {
    seed: u64,
}

/// A place in the model that drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    Embedding,
    /// What attention adds to the residual stream.
    Attention {
        layer: usize,
    },
    /// The probabilities of attention.
    Probabilities {
        layer: usize,
    },
    Mlp {
        layer: usize,
    },
    /// One adapter, by a number of its own.
    Adapter {
        number: u64,
    },
}

impl DropoutStream {
    /// The dropout of a step: give every step and micro-batch another `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed of a place.
    pub(crate) fn seed_of(self, site: Site) -> u64 {
        let number = match site {
            Site::Embedding => 0,
            Site::Attention { layer } => 1 + 2 * layer as u64,
            Site::Mlp { layer } => 2 + 2 * layer as u64,
            // Blocks stay below these two.
            Site::Probabilities { layer } => layer as u64 | 1 << 62,
            Site::Adapter { number } => number | 1 << 63,
        };
        mixed(self.seed, number)
    }
}

/// Drops values of `x` with `probability`; without a stream or a probability, `x` itself.
pub(crate) fn dropout<B: Kernels>(
    x: Tensor<B, 2>,
    probability: f64,
    stream: Option<DropoutStream>,
    site: Site,
) -> Tensor<B, 2> {
    match stream.filter(|_| probability > 0.0) {
        Some(stream) => Kernels::dropout(x, probability, stream.seed_of(site)),
        None => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_of_every_pass_has_its_own_seed() {
        let of_layer =
            |layer| [Site::Attention { layer }, Site::Probabilities { layer }, Site::Mlp { layer }];
        let sites = (0..48).flat_map(of_layer);
        let sites: Vec<Site> = sites.chain([Site::Embedding]).collect();
        let seeds: std::collections::HashSet<u64> = (0..100)
            .flat_map(|seed| sites.iter().map(move |site| DropoutStream::new(seed).seed_of(*site)))
            .collect();
        assert_eq!(seeds.len(), 100 * sites.len());
    }
}
