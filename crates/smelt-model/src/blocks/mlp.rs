//! The feed-forward part of a block.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;
use smelt_backend::kernels::Activation;

use super::Linear;
use crate::config::DecoderConfig;

/// `down_proj(activation(up_proj(x)))`.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    up_proj: Linear<B>,
    down_proj: Linear<B>,
    #[module(skip)]
    activation: Activation,
}

impl<B: Backend> Mlp<B> {
    /// For `config`, without values.
    pub(crate) fn structure(config: &DecoderConfig, device: &B::Device) -> Self {
        let (hidden, mlp) = (config.hidden_size, config.mlp);
        Self {
            up_proj: Linear::structure(hidden, mlp.intermediate_size, mlp.bias, device),
            down_proj: Linear::structure(mlp.intermediate_size, hidden, mlp.bias, device),
            activation: mlp.activation,
        }
    }
}

impl<B: Kernels> Mlp<B> {
    /// `[rows, hidden]` -> the same.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.down_proj.forward(Kernels::activation(self.up_proj.forward(x), self.activation))
    }
}
