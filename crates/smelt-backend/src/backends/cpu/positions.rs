//! Writing to a buffer of positions. burn-flex copies the whole buffer first: its `slice_assign` holds the tensor a
//! second time while it asks whether it is the only holder.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::{contiguous, flex, into_contiguous, values, wrap};

/// As `Kernels::write_positions`.
pub(super) fn write(buffer: Tensor<Flex, 4>, rows: Tensor<Flex, 4>, start: usize) -> Tensor<Flex, 4> {
    let ([_, _, room, features], [_, _, seq, _]) = (buffer.dims(), rows.dims());
    assert_eq!(
        buffer.dims()[..2],
        rows.dims()[..2],
        "batch and heads of a buffer and of what is written to it"
    );
    assert_eq!(features, rows.dims()[3], "features of a buffer and of what is written to it");
    assert!(start + seq <= room, "positions {start}..{} in a buffer of {room}", start + seq);
    let rows = contiguous(rows);
    let mut buffer = into_contiguous(flex(buffer));
    if seq * features > 0 {
        let heads = buffer.storage_mut::<f32>().chunks_exact_mut(room * features);
        for (head, rows) in heads.zip(values(&rows).chunks_exact(seq * features)) {
            head[start * features..][..seq * features].copy_from_slice(rows);
        }
    }
    wrap(buffer)
}
