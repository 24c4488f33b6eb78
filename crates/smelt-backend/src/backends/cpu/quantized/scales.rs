//! Scales and biases, widened and turned: from rows of groups to lanes of outputs.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use burn::tensor::Element;
use bytemuck::Pod;
use half::{bf16, f16};

use super::lanes::Lanes;
use super::unpack::Rows;
use crate::backends::cpu::matrix::Stored;

/// A format of scales and biases.
pub(super) trait Scale: Stored + Pod + Element {
    /// The first `count` numbers at `from`, in f32, and zeros.
    ///
    /// # Safety
    /// As [`Lanes`] says.
    unsafe fn load<V: Lanes<LANES>, const LANES: usize>(from: *const Self, count: usize) -> V;

    /// `x` rounded to the nearest number of this format.
    ///
    /// # Safety
    /// As [`Lanes`] says.
    unsafe fn rounded<V: Lanes<LANES>, const LANES: usize>(x: V) -> V;
}

impl Scale for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes<LANES>, const LANES: usize>(from: *const Self, count: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_words(from.cast(), count) }
    }

    #[inline(always)]
    unsafe fn rounded<V: Lanes<LANES>, const LANES: usize>(x: V) -> V {
        x
    }
}

impl Scale for f16 {
    #[inline(always)]
    unsafe fn load<V: Lanes<LANES>, const LANES: usize>(from: *const Self, count: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(from.cast(), count) }
    }

    #[inline(always)]
    unsafe fn rounded<V: Lanes<LANES>, const LANES: usize>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { x.in_f16() }
    }
}

impl Scale for bf16 {
    #[inline(always)]
    unsafe fn load<V: Lanes<LANES>, const LANES: usize>(from: *const Self, count: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_bf16(from.cast(), count) }
    }

    #[inline(always)]
    unsafe fn rounded<V: Lanes<LANES>, const LANES: usize>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { x.in_bf16() }
    }
}

/// Writes `count` numbers in f32, and zeros up to the end of a register.
///
/// # Safety
/// As [`Lanes`] says; there are as many, and as much room.
#[inline(always)]
pub(super) unsafe fn widen<V: Lanes<LANES>, const LANES: usize, T: Scale>(
    from: *const T,
    count: usize,
    to: *mut f32,
) {
    for first in (0..count).step_by(LANES) {
        // SAFETY: the caller's promise.
        unsafe { T::load::<V, LANES>(from.add(first), count - first).store(to.add(first)) };
    }
}

/// Writes `groups` numbers of each of `LANES` rows as `[group][lane]`.
///
/// # Safety
/// As [`Lanes`] says; rows hold `groups` numbers, and `to` has room for `groups * LANES`.
#[inline(always)]
pub(super) unsafe fn turn<V: Lanes<LANES>, const LANES: usize, T: Scale>(
    rows: Rows<T>,
    groups: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let starts = rows.starts::<LANES>();
        for first in (0..groups).step_by(LANES) {
            let count = LANES.min(groups - first);
            let mut lines = [V::zero(); LANES];
            for (line, row) in lines.iter_mut().zip(starts) {
                *line = T::load::<V, LANES>(row.add(first), count);
            }
            let columns = V::transposed(lines);
            for (group, column) in columns.iter().enumerate().take(count) {
                column.store(to.add((first + group) * LANES));
            }
        }
    }
}
