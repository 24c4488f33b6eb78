//! A table of vectors looked up by id.
//!
//! Only the gradient is fused: burn's makes the table's size several times over to add a few rows.

use burn::tensor::ops::{FloatTensor, ModuleOps};
use burn::tensor::{Int, Tensor, module};

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// [`Kernels::embedding`] in burn's own operation.
pub fn plain<B: Kernels>(weight: Tensor<B, 2>, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    module::embedding(weight, ids)
}

/// [`Kernels::embedding_backward`] in burn's own operation.
pub fn plain_backward<B: Kernels>(
    weight: Tensor<B, 2>,
    ids: Tensor<B, 2, Int>,
    grad: Tensor<B, 3>,
) -> Tensor<B, 2> {
    let ids = ids.into_primitive();
    tensor(<B as ModuleOps<B>>::embedding_backward(float(weight), float(grad), ids))
}

/// `embedding` under autodiff: input `[weight]`.
#[derive(Debug)]
pub(super) struct Embedding;

impl<B: Kernels> Operation<B, 1> for Embedding {
    const NAME: &'static str = "embedding";

    type Saved = (Tensor<B, 2>, Tensor<B, 2, Int>);

    fn backward(
        (weight, ids): Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [Some(float(Kernels::embedding_backward(weight, ids, tensor(grad))))]
    }
}
