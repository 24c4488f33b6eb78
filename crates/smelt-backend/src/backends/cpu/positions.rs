//! Writing to a buffer of positions. burn-flex copies the whole buffer first: its `slice_assign` holds the tensor a
//! second time while it asks whether it is the only holder.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::heads::Heads;
use super::{flex, into_contiguous, wrap};

/// As `Kernels::write_positions`.
pub(super) fn write(
    buffer: Tensor<Flex, 4>,
    rows: Tensor<Flex, 4>,
    taken: Range<usize>,
    start: usize,
) -> Tensor<Flex, 4> {
    let ([batch, heads, room, features], rows) = (buffer.dims(), Heads::of(rows));
    assert_eq!([batch, heads], rows.shape[..2], "batch and heads of a buffer and of what is written to it");
    assert_eq!(features, rows.shape[3], "features of a buffer and of what is written to it");
    let end = start + taken.len();
    assert!(end <= room, "positions {start}..{end} in a buffer of {room}");
    let mut buffer = into_contiguous(flex(buffer));
    if features > 0 {
        let all = buffer.storage_mut::<f32>().chunks_exact_mut(room * features);
        for (index, head) in all.enumerate() {
            let positions = head.chunks_exact_mut(features).skip(start);
            for (position, row) in positions.zip(taken.clone()) {
                position.copy_from_slice(rows.features([index / heads, index % heads, row]));
            }
        }
    }
    wrap(buffer)
}
