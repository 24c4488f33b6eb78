//! Writing to a buffer of positions. burn-flex copies the whole buffer first: its `slice_assign` holds the tensor a
//! second time while it asks whether it is the only holder.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::heads::{Heads, readable};
use super::{contiguous, wrap};

/// As `Kernels::write_positions`.
pub(super) fn write(
    buffer: Tensor<Flex, 4>,
    rows: &Tensor<Flex, 4>,
    taken: Range<usize>,
    start: usize,
) -> Tensor<Flex, 4> {
    let rows = readable(rows.clone());
    let rows = Heads::of(&rows);
    let mut buffer = contiguous(buffer);
    let shape = buffer.layout().shape();
    let (count, room, features) = (shape[0] * shape[1], shape[2], shape[3]);
    let [batch, heads, _, width] = rows.shape;
    assert_eq!(
        [shape[0], shape[1]],
        [batch, heads],
        "batch and heads of a buffer and of what is written to it"
    );
    assert_eq!(features, width, "features of a buffer and of what is written to it");
    let end = start + taken.len();
    assert!(end <= room, "positions {start}..{end} in a buffer of {room}");
    let all = buffer.storage_mut::<f32>();
    for index in 0..count {
        let place = [index / heads, index % heads];
        let to = &mut all[(index * room + start) * features..][..taken.len() * features];
        match rows.features_of(place, taken.clone()) {
            Some(from) => to.copy_from_slice(from),
            None => {
                for (to, row) in to.chunks_exact_mut(features).zip(taken.clone()) {
                    to.copy_from_slice(rows.features([place[0], place[1], row]));
                }
            }
        }
    }
    wrap(buffer)
}
