//! Rows of packed weights as values in f32, for what needs a few of them.

#![allow(unsafe_code, reason = "loops that take pointers")]

use super::leaves;
use super::panel::Packed;
use super::scales::Scale;
use super::sixteen::LANES;
use super::unpack::Rows;
use super::values::{Groups, MAX_CONSTANTS, PackedOrder};
use crate::backends::cpu::team;
use crate::kernels::quantized::unpack;

/// Values that a thread expands at a time.
const TASK_VALUES: usize = 1 << 14;
/// Rows whose groups are prepared together.
const ROWS: usize = 16;

/// What a thread works on, kept for the next rows.
#[derive(Default)]
pub(super) struct Scratch {
    codes: Vec<u8>,
    constants: Vec<f32>,
}

/// Writes the values of the rows from `start` on, as many as there is room for, rounded to `R` as they are computed.
pub(super) fn rows<R: Scale, T: Scale>(weight: Packed<'_, T>, start: usize, to: &mut [f32]) {
    let inner = weight.inner();
    let count = (TASK_VALUES / inner).max(1);
    team::for_each(to.chunks_mut(count * inner).enumerate(), |(task, to)| {
        let mut scratch = Scratch::default();
        for (rows, to) in to.chunks_mut(ROWS * inner).enumerate() {
            let first = start + task * count + rows * ROWS;
            write::<R, T>(weight, first, PackedOrder::Bytes, to, &mut scratch);
        }
    });
}

/// Codes of some rows as `order` says how they lie, and their groups.
#[derive(Clone, Copy)]
pub(super) struct Prepared {
    pub codes: Rows<u8>,
    pub groups: Groups,
}

/// `count` rows from `first` on, for values that are rounded to `R`. They are in `scratch`, or as they are packed.
pub(super) fn prepared<R: Scale, T: Scale>(
    weight: Packed<'_, T>,
    first: usize,
    count: usize,
    order: PackedOrder,
    scratch: &mut Scratch,
) -> Prepared {
    let (format, inner) = (weight.format(), weight.inner());
    let (packed, scales, biases) = weight.rows(first, count);
    let stride = scales.len().next_multiple_of(LANES);
    scratch.constants.resize(MAX_CONSTANTS * stride, 0.0);
    let (to_scales, to_biases) = scratch.constants.split_at_mut(stride);
    // SAFETY: there is room for whole registers of both, and for all that is prepared of them.
    unsafe {
        leaves::widen(scales.as_ptr(), scales.len(), to_scales.as_mut_ptr());
        leaves::widen(biases.as_ptr(), biases.len(), to_biases.as_mut_ptr());
        leaves::prepare::<R>(order, scratch.constants.as_mut_ptr(), stride);
    }
    let stride_bytes = packed.len() / count;
    let codes = if format.bits() == 8 || order == PackedOrder::Pairs {
        Rows { from: packed.as_ptr(), stride: stride_bytes, count }
    } else {
        scratch.codes.resize(count * inner, 0);
        let rows = packed.chunks_exact(stride_bytes).zip(scratch.codes.chunks_exact_mut(inner));
        rows.for_each(|(packed, codes)| unpack(packed, format, codes));
        Rows { from: scratch.codes.as_ptr(), stride: inner, count }
    };
    let (constants, size) = (scratch.constants.as_ptr(), format.group_size());
    Prepared { codes, groups: Groups { constants, stride, size, count: inner / size } }
}

/// Writes the values of the rows from `first` on, as many as there is room for, in `order` and rounded to `R`.
pub(super) fn write<R: Scale, T: Scale>(
    weight: Packed<'_, T>,
    first: usize,
    order: PackedOrder,
    to: &mut [f32],
    scratch: &mut Scratch,
) {
    assert!(to.len().is_multiple_of(weight.inner()), "room for whole rows");
    let rows = prepared::<R, T>(weight, first, to.len() / weight.inner(), order, scratch);
    // SAFETY: the rows were prepared for `R` and `order`, and there is as much room.
    unsafe { leaves::write::<R>(order, rows.codes, rows.groups, to.as_mut_ptr()) }
}
