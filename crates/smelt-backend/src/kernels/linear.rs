//! Affine map with the weight in Hugging Face's orientation, `[out_features, in_features]`.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor};

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
    let y = match weight.dtype() {
        dtype @ (DType::BF16 | DType::F16) => x.cast(dtype).matmul(weight.transpose()).cast(DType::F32),
        _ => x.matmul(weight.transpose()),
    };
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
    let bias = need_bias.then(|| grad.clone().sum_dim(0).squeeze_dim(0));
    if let dtype @ (DType::BF16 | DType::F16) = weight.dtype() {
        let grad = grad.cast(dtype);
        return LinearGradients {
            x: need_x.then(|| grad.clone().matmul(weight).cast(DType::F32)),
            weight: need_weight.then(|| grad.transpose().matmul(x.cast(dtype)).cast(DType::F32)),
            bias,
        };
    }
    LinearGradients {
        x: need_x.then(|| grad.clone().matmul(weight)),
        weight: need_weight.then(|| grad.transpose().matmul(x)),
        bias,
    }
}

/// `x` as a product under autodiff takes it: rounded to the dtype of a weight that is trained in 16 bits.
pub(super) fn operand<B: Kernels>(x: Tensor<B, 2>, weight: &Tensor<B, 2>, trained: bool) -> Tensor<B, 2> {
    match weight.dtype() {
        dtype @ (DType::BF16 | DType::F16) if trained => B::rounded(x, dtype),
        _ => x,
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
