//! Layer normalisation (Ba et al. 2016, arXiv:1607.06450) over the last dimension.

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// Gradients of [`Kernels::layer_norm`].
#[derive(Debug)]
pub struct LayerNormGradients<B: Kernels> {
    /// `[rows, hidden]`
    pub x: Tensor<B, 2>,
    /// `[hidden]`
    pub weight: Tensor<B, 1>,
    /// `[hidden]`
    pub bias: Tensor<B, 1>,
}

/// `(x - mean) / sqrt(variance + epsilon)` and `1 / sqrt(variance + epsilon)`.
fn normalized<B: Kernels>(x: Tensor<B, 2>, epsilon: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let centered = x.clone() - x.mean_dim(1);
    let variance = (centered.clone() * centered.clone()).mean_dim(1);
    let deviation = (variance + epsilon).sqrt();
    // A written-out division: `recip` is approximate in burn-ndarray on AVX-512.
    let inverse = deviation.ones_like() / deviation;
    (centered * inverse.clone(), inverse)
}

/// [`Kernels::layer_norm`] in plain burn operations.
pub fn plain<B: Kernels>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
    epsilon: f64,
) -> Tensor<B, 2> {
    let (normalized, _) = normalized(x, epsilon);
    let y = normalized * weight.unsqueeze();
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// [`Kernels::layer_norm_backward`] in plain burn operations.
pub fn plain_backward<B: Kernels>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    grad: Tensor<B, 2>,
    epsilon: f64,
) -> LayerNormGradients<B> {
    let (normalized, inverse) = normalized(x, epsilon);
    let grad_weight = (grad.clone() * normalized.clone()).sum_dim(0).squeeze_dim(0);
    let grad_bias = grad.clone().sum_dim(0).squeeze_dim(0);
    let scaled = grad * weight.unsqueeze();
    let along = (scaled.clone() * normalized.clone()).mean_dim(1);
    let grad_x = (scaled.clone() - scaled.mean_dim(1) - normalized * along) * inverse;
    LayerNormGradients { x: grad_x, weight: grad_weight, bias: grad_bias }
}

type Saved<B> = (Tensor<B, 2>, Tensor<B, 1>, f64);

/// `layer_norm` with a bias under autodiff: inputs `[x, weight, bias]`.
#[derive(Debug)]
pub(super) struct WithBias;

impl<B: Kernels> Operation<B, 3> for WithBias {
    const NAME: &'static str = "layer_norm";
    type Saved = Saved<B>;

    fn backward(
        (x, weight, epsilon): Saved<B>,
        grad: FloatTensor<B>,
        _needed: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let gradients = B::layer_norm_backward(x, weight, tensor(grad), epsilon);
        [Some(float(gradients.x)), Some(float(gradients.weight)), Some(float(gradients.bias))]
    }
}

/// `layer_norm` without a bias under autodiff: inputs `[x, weight]`.
#[derive(Debug)]
pub(super) struct WithoutBias;

impl<B: Kernels> Operation<B, 2> for WithoutBias {
    const NAME: &'static str = "layer_norm";
    type Saved = Saved<B>;

    fn backward(
        (x, weight, epsilon): Saved<B>,
        grad: FloatTensor<B>,
        _needed: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let gradients = B::layer_norm_backward(x, weight, tensor(grad), epsilon);
        [Some(float(gradients.x)), Some(float(gradients.weight))]
    }
}
