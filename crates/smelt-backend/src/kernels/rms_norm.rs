//! Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467) over the last dimension.

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// Gradients of [`Kernels::rms_norm`].
#[derive(Debug)]
pub struct RmsNormGradients<B: Kernels> {
    /// `[rows, hidden]`
    pub x: Tensor<B, 2>,
    /// `[hidden]`
    pub weight: Tensor<B, 1>,
}

/// `x / rms(x)` and `1 / rms(x)`.
fn normalized<B: Kernels>(x: Tensor<B, 2>, epsilon: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let mean_square = (x.clone() * x.clone()).mean_dim(1);
    let root = (mean_square + epsilon).sqrt();
    let inverse = root.ones_like() / root;
    (x * inverse.clone(), inverse)
}

/// [`Kernels::rms_norm`] in plain burn operations.
pub fn plain<B: Kernels>(x: Tensor<B, 2>, weight: Tensor<B, 1>, epsilon: f64) -> Tensor<B, 2> {
    normalized(x, epsilon).0 * weight.unsqueeze()
}

/// [`Kernels::rms_norm_backward`] in plain burn operations.
pub fn plain_backward<B: Kernels>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 1>,
    grad: Tensor<B, 2>,
    epsilon: f64,
) -> RmsNormGradients<B> {
    let (normalized, inverse) = normalized(x, epsilon);
    let grad_weight = (grad.clone() * normalized.clone()).sum_dim(0).squeeze_dim(0);
    let scaled = grad * weight.unsqueeze();
    let along = (scaled.clone() * normalized.clone()).mean_dim(1);
    RmsNormGradients { x: (scaled - normalized * along) * inverse, weight: grad_weight }
}

/// `rms_norm` under autodiff: inputs `[x, weight]`.
#[derive(Debug)]
pub(super) struct RmsNorm;

impl<B: Kernels> Operation<B, 2> for RmsNorm {
    const NAME: &'static str = "rms_norm";
    type Saved = (Tensor<B, 2>, Tensor<B, 1>, f64);

    fn backward(
        (x, weight, epsilon): Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let gradients = B::rms_norm_backward(x, weight, tensor(grad), epsilon);
        [Some(float(gradients.x)), Some(float(gradients.weight))]
    }
}
