//! From a padding mask to what is added to attention scores.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Finite, so that a row whose keys are all padding averages them instead of becoming NaN.
const HIDDEN: f32 = 1e9;

/// `mask` `[batch, kv_len]` of 1 (seen) and 0 (padding) -> `[batch, 1, 1, kv_len]` of 0 and -1e9.
///
/// # Panics
/// If the mask is of another shape.
pub(crate) fn additive<B: Backend>(mask: Tensor<B, 2>, batch: usize, kv_len: usize) -> Tensor<B, 4> {
    assert_eq!(mask.dims(), [batch, kv_len], "shape of the attention mask");
    ((mask - 1.0) * HIDDEN).reshape([batch, 1, 1, kv_len])
}
