//! From padding and documents to what is added to attention scores.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::{Kernels, float_tensor};

/// Finite, so that a row whose keys are all padding averages them instead of becoming NaN.
const HIDDEN: f32 = 1e9;

/// `mask` `[batch, seq]` of 1 (seen) and 0 (padding) -> `[batch, 1, 1, seq]` of 0 and -1e9.
///
/// # Panics
/// If the mask is of another shape.
pub(crate) fn padding<B: Backend>(mask: Tensor<B, 2>, shape: [usize; 2]) -> Tensor<B, 4> {
    assert_eq!(mask.dims(), shape, "shape of the attention mask");
    ((mask - 1.0) * HIDDEN).reshape([shape[0], 1, 1, shape[1]])
}

/// `ids` `[batch, seq]`, row-major -> `[batch, 1, seq, seq]`: 0 between tokens of one document, else -1e9.
pub(crate) fn documents<B: Kernels>(ids: &[u32], batch: usize, device: &B::Device) -> Tensor<B, 4> {
    let seq = ids.len() / batch;
    assert_eq!(ids.len(), batch * seq, "document ids of {batch} sequences");
    let column: Tensor<B, 3> =
        float_tensor(ids.iter().map(|id| *id as f32).collect(), [batch, seq, 1], device);
    let shape = [batch, seq, seq];
    let same = column.clone().expand(shape).equal(column.swap_dims(1, 2).expand(shape));
    ((same.float() - 1.0) * HIDDEN).unsqueeze_dim(1)
}
