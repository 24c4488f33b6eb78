//! Rows of packed weights as values in f32, for what needs a few of them.

#![allow(unsafe_code, reason = "loops that take pointers")]

use super::leaves;
use super::panel::Packed;
use super::scales::Scale;
use super::values::Row;
use crate::backends::cpu::team;
use crate::kernels::quantized::unpack;

/// Values that a thread expands at a time.
const TASK_VALUES: usize = 1 << 14;

/// Writes the values of the rows from `start` on, as many as there is room for, rounded to `R` as they are computed.
pub(super) fn rows<R: Scale, T: Scale>(weight: Packed<'_, T>, start: usize, to: &mut [f32]) {
    let inner = weight.inner();
    assert!(to.len().is_multiple_of(inner), "room for whole rows");
    let count = (TASK_VALUES / inner).max(1);
    team::for_each(to.chunks_mut(count * inner).enumerate(), |(task, to)| {
        let mut unpacked = Vec::new();
        for (row, to) in to.chunks_exact_mut(inner).enumerate() {
            let (packed, scales, biases) = weight.rows(start + task * count + row, 1);
            let codes = if weight.format().bits() == 8 {
                packed
            } else {
                unpacked.resize(inner, 0);
                unpack(packed, weight.format(), &mut unpacked);
                &unpacked
            };
            let row = Row {
                codes: codes.as_ptr(),
                scales: scales.as_ptr(),
                biases: biases.as_ptr(),
                groups: weight.groups(),
                group_size: weight.format().group_size(),
            };
            // SAFETY: the row has as many codes and groups, and there is room for its values.
            unsafe { leaves::write::<R, T>(row, to.as_mut_ptr()) };
        }
    });
}
