//! The one linear projection: its weight in floats or packed, with or without an adapter.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::kernels::{Head, HeadWeight, QuantizedWeight};
use smelt_backend::{Kernels, to_host};

use super::observer::Observer;
use super::{DropoutStream, Lora, Matrix, computed, parameter};

/// `x weight^T + bias`, with the weight in Hugging Face's orientation.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out_features, in_features]`
    pub weight: Matrix<B>,
    /// `[out_features]`
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// What is added to it.
    pub lora: Option<Lora<B>>,
    #[module(skip)]
    pub(crate) observer: Option<Observer>,
}

impl<B: Backend> Linear<B> {
    /// From `in_features` to `out_features`, without values.
    pub(crate) fn structure(in_features: usize, out_features: usize, bias: bool, device: &B::Device) -> Self {
        Self {
            bias: bias.then(|| parameter([out_features], device)),
            ..Self::of(Matrix::structure([out_features, in_features], device))
        }
    }

    /// With `weight`, without a bias.
    pub(crate) fn of(weight: Matrix<B>) -> Self {
        Self { weight, bias: None, lora: None, observer: None }
    }
}

impl<B: Kernels> Linear<B> {
    /// `[rows, in_features]` -> `[rows, out_features]`; adapters drop what `dropout` says.
    pub fn forward(&self, x: Tensor<B, 2>, dropout: Option<DropoutStream>) -> Tensor<B, 2> {
        if let Some(observer) = &self.observer {
            observer.see(to_host(x.clone()));
        }
        match &self.lora {
            Some(lora) => lora.forward(self, x, dropout),
            None => self.weight.product(x, self.computed_bias()),
        }
    }

    /// [`forward`](Linear::forward) of one `x` by several projections.
    pub fn forward_all<const N: usize>(
        linears: [&Self; N],
        x: Tensor<B, 2>,
        dropout: Option<DropoutStream>,
    ) -> [Tensor<B, 2>; N] {
        let packed: Vec<_> = linears.iter().filter_map(|linear| linear.packed()).collect();
        match packed.try_into() {
            Ok(weights) => Kernels::quantized_linears::<N>(x, weights),
            Err(_) => linears.map(|linear| linear.forward(x.clone(), dropout)),
        }
    }

    /// The weight and the bias of a product of packed codes, where nothing else is done.
    fn packed(&self) -> Option<(QuantizedWeight<B>, Option<Tensor<B, 1>>)> {
        match &self.weight {
            Matrix::Quantized(weight) if self.lora.is_none() && self.observer.is_none() => {
                Some((weight.clone(), self.computed_bias()))
            }
            _ => None,
        }
    }

    /// The bias as it is computed with.
    pub(crate) fn computed_bias(&self) -> Option<Tensor<B, 1>> {
        self.bias.as_ref().map(|bias| computed(bias.val()))
    }

    /// As an output head; an adapter becomes part of the weight, without its dropout.
    pub(crate) fn head(&self) -> Head<B> {
        let weight = match &self.lora {
            Some(lora) => HeadWeight::Float(lora.merged_weight(self)),
            None => self.weight.head(),
        };
        Head { weight, bias: self.computed_bias() }
    }

    /// Makes the adapter part of the weight, which keeps its dtype; one that was packed is in f32 then.
    pub(crate) fn merge(&mut self) {
        if let Some(lora) = self.lora.take() {
            let merged = lora.merged_weight(self);
            self.weight = match &self.weight {
                Matrix::Dense(weight) => {
                    Matrix::Dense(Param::initialized(weight.id, merged.cast(weight.val().dtype())))
                }
                Matrix::Quantized(_) => Matrix::of(merged),
            };
        }
    }
}
