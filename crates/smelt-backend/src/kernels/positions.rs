//! Writing to a buffer of positions, as caches of keys and values are.

use std::ops::Range;

use burn::tensor::Tensor;

use super::Kernels;

/// [`Kernels::write_positions`] in plain burn operations.
pub fn plain<B: Kernels>(
    buffer: Tensor<B, 4>,
    rows: &Tensor<B, 4>,
    taken: Range<usize>,
    start: usize,
) -> Tensor<B, 4> {
    let [batch, heads, _, features] = rows.dims();
    let rows = rows.clone().narrow(2, taken.start, taken.len());
    buffer.slice_assign([0..batch, 0..heads, start..start + taken.len(), 0..features], rows)
}
