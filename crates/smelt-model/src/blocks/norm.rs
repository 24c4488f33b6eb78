//! Normalisation over the features: LayerNorm or RMSNorm, by configuration.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;

use super::parameter;
use crate::config::{NormConfig, NormKind};

/// A norm with a learned scale.
#[derive(Module, Debug)]
pub struct Norm<B: Backend> {
    /// `[features]`
    pub weight: Param<Tensor<B, 1>>,
    /// `[features]`
    pub bias: Option<Param<Tensor<B, 1>>>,
    #[module(skip)]
    config: NormConfig,
}

impl<B: Backend> Norm<B> {
    /// Over `features`, without values.
    pub(crate) fn structure(config: NormConfig, features: usize, device: &B::Device) -> Self {
        let bias = matches!(config.kind, NormKind::LayerNorm { bias: true });
        Self {
            weight: parameter([features], device),
            bias: bias.then(|| parameter([features], device)),
            config,
        }
    }
}

impl<B: Kernels> Norm<B> {
    /// `[rows, features]` -> the same.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let epsilon = self.config.epsilon;
        match self.config.kind {
            NormKind::LayerNorm { .. } => {
                Kernels::layer_norm(x, self.weight.val(), self.bias.as_ref().map(Param::val), epsilon)
            }
            NormKind::RmsNorm { unit_offset: true } => Kernels::rms_norm(x, self.weight.val() + 1.0, epsilon),
            NormKind::RmsNorm { unit_offset: false } => Kernels::rms_norm(x, self.weight.val(), epsilon),
        }
    }
}
