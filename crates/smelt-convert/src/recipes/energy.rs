//! How much weights make of certain inputs.

use burn::tensor::Tensor;
use smelt_backend::{Kernels, float_tensor, to_host};
use smelt_model::calibration::InputMoments;

/// The second moments of some inputs.
pub(super) struct Energy<B: Kernels>(Tensor<B, 2>);

impl<B: Kernels> Energy<B> {
    pub(super) fn new(moments: &InputMoments, device: &B::Device) -> Self {
        let features = moments.magnitudes.len();
        Self(float_tensor(moments.products.clone(), [features, features], device))
    }

    /// The sum of squares of what `weight` of shape `dims` makes of the inputs: the trace of `W H W^T`.
    pub(super) fn of(&self, weight: &[f32], dims: [usize; 2]) -> f64 {
        let weights = float_tensor::<B, 2>(weight.to_vec(), dims, &self.0.device());
        let along = to_host(Kernels::linear(weights, self.0.clone(), None));
        along.iter().zip(weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>().max(0.0)
    }
}
