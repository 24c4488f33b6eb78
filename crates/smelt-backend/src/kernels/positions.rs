//! Writing to a buffer of positions, as caches of keys and values are.

use burn::tensor::Tensor;

use super::Kernels;

/// [`Kernels::write_positions`] in plain burn operations.
pub fn plain<B: Kernels>(buffer: Tensor<B, 4>, rows: Tensor<B, 4>, start: usize) -> Tensor<B, 4> {
    let [batch, heads, seq, features] = rows.dims();
    buffer.slice_assign([0..batch, 0..heads, start..start + seq, 0..features], rows)
}
