//! Dropout masks (Srivastava et al. 2014) from a seed per call site.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Distribution, Tensor};

use super::Kernels;

/// Held from seeding a backend's generator to the last draw: it is one for the whole process.
static GENERATOR: Mutex<()> = Mutex::new(());

/// A mask of `0` and `1 / (1 - probability)`, the same for the same seed, shape and backend.
///
/// # Panics
/// If `probability` is not in `[0, 1)`.
pub(super) fn scaled_mask<B: Kernels>(
    shape: [usize; 2],
    probability: f64,
    seed: u64,
    device: &B::Device,
) -> Tensor<B, 2> {
    assert!((0.0..1.0).contains(&probability), "dropout probability is {probability}");
    let keep = 1.0 - probability;
    let uniform = {
        let _generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        B::seed(device, seed);
        Tensor::<B, 2>::random(shape, Distribution::Uniform(0.0, 1.0), device)
    };
    uniform.lower_elem(keep).float() / keep
}
