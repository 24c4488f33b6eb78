//! Low-rank adapters of a projection: LoRA (Hu et al. 2021, arXiv:2106.09685) and DoRA (Liu et al. 2024,
//! arXiv:2402.09353), as PEFT computes them.
//!
//! The projection's own weight is not touched. Knows nothing of files and of which projections are adapted.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::Kernels;

use super::dropout::{DropoutStream, Site, dropout};
use super::{Linear, computed, parameter};

/// What is added to one projection: `scaling * lora_b lora_a`, and with a magnitude the rows of the sum scaled.
#[derive(Module, Debug)]
pub struct Lora<B: Backend> {
    /// `[r, in_features]`
    pub lora_a: Param<Tensor<B, 2>>,
    /// `[out_features, r]`
    pub lora_b: Param<Tensor<B, 2>>,
    /// DoRA's part.
    pub magnitude: Option<Magnitude<B>>,
    #[module(skip)]
    config: LoraConfig,
}

/// DoRA's lengths of the rows of the adapted weight.
#[derive(Module, Debug)]
pub struct Magnitude<B: Backend> {
    /// `[out_features]`
    pub vector: Param<Tensor<B, 1>>,
    /// Squared lengths of the rows of the projection's own weight, which does not change: `[out_features]`.
    pub base_squares: Param<Tensor<B, 1>>,
}

/// The numbers of one adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// Factor on the product.
    pub scaling: f64,
    /// Dropout on what enters the adapter, in training.
    pub dropout: f64,
    /// Tells the dropout of this adapter from that of others.
    pub site: u64,
}

impl<B: Kernels> Lora<B> {
    /// For `linear`, without values but for what follows from the projection's weight.
    pub(crate) fn structure(linear: &Linear<B>, config: LoraConfig, magnitude: bool) -> Self {
        let (device, [outer, inner]) = (linear.weight.device(), linear.weight.dims());
        Self {
            lora_a: parameter([config.r, inner], &device),
            lora_b: parameter([outer, config.r], &device),
            magnitude: magnitude.then(|| {
                let weight = computed(linear.weight.values());
                Magnitude {
                    vector: parameter([outer], &device),
                    base_squares: Param::from_tensor((weight.clone() * weight).sum_dim(1).squeeze_dim(1)),
                }
            }),
            config,
        }
    }

    /// What `linear` and the adapter make of `x`: `[rows, in_features]` -> `[rows, out_features]`.
    pub(crate) fn forward(
        &self,
        linear: &Linear<B>,
        x: Tensor<B, 2>,
        stream: Option<DropoutStream>,
    ) -> Tensor<B, 2> {
        let LoraConfig { scaling, dropout: probability, site, .. } = self.config;
        let bias = linear.computed_bias();
        let dropped = dropout(x.clone(), probability, stream, Site::Adapter { number: site });
        let low = Kernels::linear(dropped.clone(), self.lora_a.val(), None) * scaling;
        let update = Kernels::linear(low, self.lora_b.val(), None);
        let Some(magnitude) = &self.magnitude else {
            return linear.weight.product(x, bias) + update;
        };
        let scale: Tensor<B, 2> = self.row_scale(linear, magnitude).unsqueeze();
        let base = linear.weight.product(x, None);
        // As in PEFT, the magnitude acts on what was dropped, and the projection itself on what was not.
        let y = match stream.filter(|_| probability > 0.0) {
            None => (base + update) * scale,
            Some(_) => {
                let of_dropped = linear.weight.product(dropped, None);
                base + of_dropped * (scale.clone() - 1.0) + update * scale
            }
        };
        match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        }
    }

    /// The weight of a projection that does by itself what `linear` does with this adapter.
    pub(crate) fn merged_weight(&self, linear: &Linear<B>) -> Tensor<B, 2> {
        let product = self.lora_b.val().matmul(self.lora_a.val()) * self.config.scaling;
        let weight = computed(linear.weight.values()) + product;
        match &self.magnitude {
            None => weight,
            Some(magnitude) => weight * self.row_scale(linear, magnitude).unsqueeze_dim(1),
        }
    }

    /// Magnitudes over the lengths of the adapted rows, `[out_features]`; as in DoRA's paper (section 4.3), no
    /// gradient flows through the lengths.
    ///
    /// The square of a row of `W + s B A` is `|W|^2 + 2 s B (W A^T) + s^2 B (A A^T) B^T`: the sum itself, as large as
    /// the weight, is never made.
    fn row_scale(&self, linear: &Linear<B>, magnitude: &Magnitude<B>) -> Tensor<B, 1> {
        let (a, b) = (self.lora_a.val().detach(), self.lora_b.val().detach());
        let scaling = self.config.scaling;
        let along = linear.weight.product(a.clone(), None).detach().transpose();
        let gram = Kernels::linear(a.clone(), a, None);
        let across = Kernels::linear(b.clone(), gram, None);
        let change = b * (along * (2.0 * scaling) + across * (scaling * scaling));
        let squares = magnitude.base_squares.val() + change.sum_dim(1).squeeze_dim(1);
        magnitude.vector.val() / squares.sqrt()
    }
}
