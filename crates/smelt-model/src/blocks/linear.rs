//! The one linear projection, with or without an adapter. Quantized weights will be a variant of it.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;
use smelt_backend::kernels::{Head, HeadWeight};

use super::{DropoutStream, Lora, computed, parameter};

/// `x weight^T + bias`, with the weight in Hugging Face's orientation.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out_features, in_features]`
    pub weight: Param<Tensor<B, 2>>,
    /// `[out_features]`
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// What is added to it.
    pub lora: Option<Lora<B>>,
}

impl<B: Backend> Linear<B> {
    /// From `in_features` to `out_features`, without values.
    pub(crate) fn structure(in_features: usize, out_features: usize, bias: bool, device: &B::Device) -> Self {
        Self {
            weight: parameter([out_features, in_features], device),
            bias: bias.then(|| parameter([out_features], device)),
            lora: None,
        }
    }
}

impl<B: Kernels> Linear<B> {
    /// `[rows, in_features]` -> `[rows, out_features]`; adapters drop what `dropout` says.
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<DropoutStream>) -> Tensor<B, 2> {
        match &self.lora {
            Some(lora) => lora.forward(self, x, dropout),
            None => {
                Kernels::linear(x, self.weight.val(), self.bias.as_ref().map(|bias| computed(bias.val())))
            }
        }
    }

    /// As an output head; an adapter becomes part of the weight, without its dropout.
    pub(crate) fn head(&self) -> Head<B> {
        let weight = match &self.lora {
            Some(lora) => lora.merged_weight(self),
            None => self.weight.val(),
        };
        Head { weight: HeadWeight::Float(weight), bias: self.bias.as_ref().map(|bias| computed(bias.val())) }
    }

    /// Makes the adapter part of the weight, which keeps its dtype.
    pub(crate) fn merge(&mut self) {
        if let Some(lora) = self.lora.take() {
            let dtype = self.weight.val().dtype();
            let merged = lora.merged_weight(self).cast(dtype);
            self.weight = Param::initialized(self.weight.id, merged);
        }
    }
}
