//! Values of packed weights in f32, for what needs a few rows of them.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::lanes::Lanes;
use super::leaves;
use super::panel::Packed;
use super::scales::Scale;
use crate::backends::cpu::team;
use crate::kernels::quantized::unpack;

/// Values that a thread expands at a time.
const TASK_VALUES: usize = 1 << 14;

/// Writes the values of the rows from `start` on, as many as there is room for, rounded to `R` as they are computed.
pub(super) fn rows<R: Scale, T: Scale>(weight: Packed<'_, T>, start: usize, to: &mut [f32]) {
    let (inner, group_size) = (weight.inner(), weight.format().group_size());
    let count = (TASK_VALUES / inner).max(1);
    team::for_each(to.chunks_mut(count * inner).enumerate(), |(task, to)| {
        let (mut codes, mut held) = (vec![0; inner], vec![0.0; 2 * inner / group_size]);
        let (scales, biases) = held.split_at_mut(inner / group_size);
        for (row, to) in to.chunks_exact_mut(inner).enumerate() {
            let (packed, row_scales, row_biases) = weight.row(start + task * count + row);
            unpack(packed, weight.format(), &mut codes);
            scales.iter_mut().zip(row_scales).for_each(|(to, from)| *to = from.value());
            biases.iter_mut().zip(row_biases).for_each(|(to, from)| *to = from.value());
            // SAFETY: `codes` and `to` have `inner` elements, and so many groups have a scale and a bias.
            unsafe {
                let groups = Groups { scales: scales.as_ptr(), biases: biases.as_ptr(), group_size };
                leaves::affine::<R>(codes.as_ptr(), groups, inner, to.as_mut_ptr());
            }
        }
    });
}

/// Scales and biases of a row.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub scales: *const f32,
    pub biases: *const f32,
    pub group_size: usize,
}

/// Writes what `count` codes stand for, each operation rounded to `R`.
///
/// # Safety
/// As [`Lanes`] says; there are as many codes, scales and biases, and as much room.
#[inline(always)]
pub(super) unsafe fn affine<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    codes: *const u8,
    groups: Groups,
    count: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise; groups are several registers.
    unsafe {
        for group in 0..count / groups.group_size {
            let scale = V::splat(groups.scales.add(group));
            let bias = V::splat(groups.biases.add(group));
            let first = group * groups.group_size;
            for at in (first..first + groups.group_size).step_by(LANES) {
                let product = R::rounded::<V, LANES>(V::load_bytes(codes.add(at)).mul(scale));
                R::rounded::<V, LANES>(product.add(bias)).store(to.add(at));
            }
        }
    }
}
