//! The one linear projection. Adapters and quantized weights will be variants of it.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;

use super::{computed, parameter};

/// `x weight^T + bias`, with the weight in Hugging Face's orientation.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out_features, in_features]`
    pub weight: Param<Tensor<B, 2>>,
    /// `[out_features]`
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// From `in_features` to `out_features`, without values.
    pub(crate) fn structure(in_features: usize, out_features: usize, bias: bool, device: &B::Device) -> Self {
        Self {
            weight: parameter([out_features, in_features], device),
            bias: bias.then(|| parameter([out_features], device)),
        }
    }
}

impl<B: Kernels> Linear<B> {
    /// `[rows, in_features]` -> `[rows, out_features]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        Kernels::linear(x, self.weight.val(), self.bias.as_ref().map(|bias| computed(bias.val())))
    }
}
