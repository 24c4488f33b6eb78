//! Affine map with the weight in Hugging Face's orientation, `[out_features, in_features]`.

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// Gradients of [`Kernels::linear`]; `None` where not asked for.
#[derive(Debug)]
pub struct LinearGradients<B: Kernels> {
    /// `[rows, in]`
    pub x: Option<Tensor<B, 2>>,
    /// `[out, in]`
    pub weight: Option<Tensor<B, 2>>,
    /// `[out]`
    pub bias: Option<Tensor<B, 1>>,
}

/// [`Kernels::linear`] in plain burn operations.
pub fn plain<B: Kernels>(x: Tensor<B, 2>, weight: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 2> {
    let y = x.matmul(weight.transpose());
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// [`Kernels::linear_backward`] in plain burn operations.
pub fn plain_backward<B: Kernels>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    grad: Tensor<B, 2>,
    needed: [bool; 3],
) -> LinearGradients<B> {
    let [need_x, need_weight, need_bias] = needed;
    LinearGradients {
        x: need_x.then(|| grad.clone().matmul(weight)),
        weight: need_weight.then(|| grad.clone().transpose().matmul(x)),
        bias: need_bias.then(|| grad.sum_dim(0).squeeze_dim(0)),
    }
}

/// `linear` with a bias under autodiff: inputs `[x, weight, bias]`.
#[derive(Debug)]
pub(super) struct WithBias;

impl<B: Kernels> Operation<B, 3> for WithBias {
    const NAME: &'static str = "linear";
    type Saved = (Tensor<B, 2>, Tensor<B, 2>);

    fn backward(
        (x, weight): Self::Saved,
        grad: FloatTensor<B>,
        needed: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let gradients = B::linear_backward(x, weight, tensor(grad), needed);
        [gradients.x.map(float), gradients.weight.map(float), gradients.bias.map(float)]
    }
}

/// `linear` without a bias under autodiff: inputs `[x, weight]`.
#[derive(Debug)]
pub(super) struct WithoutBias;

impl<B: Kernels> Operation<B, 2> for WithoutBias {
    const NAME: &'static str = "linear";
    type Saved = (Tensor<B, 2>, Tensor<B, 2>);

    fn backward(
        (x, weight): Self::Saved,
        grad: FloatTensor<B>,
        [need_x, need_weight]: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let gradients = B::linear_backward(x, weight, tensor(grad), [need_x, need_weight, false]);
        [gradients.x.map(float), gradients.weight.map(float)]
    }
}
