//! Copies of parts of a matrix in the order in which [`super::tile`] reads them, in f32.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::stored::Stored;
use super::tile::{Ahead, ByColumns, Rows, fetch};
use super::vector::Vector;

/// A part of a matrix: `lines` rows of `a`, or columns of `b`, each of `k` numbers.
#[derive(Clone, Copy)]
pub(super) struct Lines<T> {
    pub from: *const T,
    pub count: usize,
    /// From a line to the next.
    pub stride: usize,
    /// From a number of a line to the next.
    pub step: usize,
}

/// Writes `lines` as `[k][width]`, with zeros, or others' numbers, from `lines.count` up to `width`.
///
/// Meanwhile fetches as much from `ahead` on, which may be anywhere, if the lines are contiguous.
///
/// # Safety
/// As [`Vector`] says; the lines hold `k` numbers each, and `to` has room for `k * width`.
#[inline(always)]
pub(super) unsafe fn pack<V: Vector<LANES>, const LANES: usize, T: Stored>(
    lines: Lines<T>,
    k: usize,
    width: usize,
    to: *mut f32,
    ahead: *const T,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if lines.step == 1 && lines.count > 1 {
            return transposed::<V, LANES, T>(lines, k, width, to, ahead);
        }
        let side_by_side = T::PER_LANE == 1 && lines.stride == 1 && lines.count == width;
        let whole = if side_by_side && lines.step >= LANES && 2 * width >= LANES {
            // One number in a lane is one in f32. A register may hold more than a line of `to`, and of `from`: what is
            // too much belongs to the line behind, which is written next, and is there for all but the last.
            let lines_of_to = k.saturating_sub(1);
            for at in 0..lines_of_to {
                let (from, to) = (lines.from.add(at * lines.step).cast::<f32>(), to.add(at * width));
                for first in (0..width).step_by(LANES) {
                    V::load(from.add(first)).store(to.add(first));
                }
            }
            lines_of_to
        } else {
            0
        };
        for at in whole..k {
            let (from, to) = (lines.from.add(at * lines.step), to.add(at * width));
            if lines.stride == 1 {
                for line in 0..lines.count {
                    *to.add(line) = (*from.add(line)).value();
                }
            } else {
                for line in 0..lines.count {
                    *to.add(line) = (*from.add(line * lines.stride)).value();
                }
            }
            for line in lines.count..width {
                *to.add(line) = 0.0;
            }
        }
    }
}

/// [`pack`] of lines that are contiguous, which become columns in registers.
#[inline(always)]
unsafe fn transposed<V: Vector<LANES>, const LANES: usize, T: Stored>(
    lines: Lines<T>,
    k: usize,
    width: usize,
    to: *mut f32,
    ahead: *const T,
) {
    let mut ahead = Ahead::new(ahead, lines.stride);
    let fours_end = k / ByColumns::<T>::NUMBERS * ByColumns::<T>::NUMBERS;
    // SAFETY: the promise of `pack`. A register is written whole where the numbers behind belong to rows
    // that are written later.
    unsafe {
        for first in (0..width).step_by(LANES) {
            let count = LANES.min(width - first);
            let held = lines.count.saturating_sub(first).min(LANES);
            let from = lines.from.wrapping_add(first * lines.stride);
            let mut by_columns = ByColumns::of(Rows { from, stride: lines.stride, count: held });
            for start in (0..fours_end).step_by(ByColumns::<T>::NUMBERS) {
                let columns = by_columns.next::<V, LANES>(start);
                let next = ahead.of_four::<LANES>();
                for (column, lanes) in columns.iter().enumerate() {
                    fetch::<V, LANES>(next, column);
                    let parts = T::widened::<V, LANES>(*lanes);
                    for (part, values) in parts.iter().enumerate().take(T::PER_LANE) {
                        let at = (start + column * T::PER_LANE + part) * width + first;
                        if count == LANES || (first == 0 && at + LANES <= k * width) {
                            values.store(to.add(at));
                        } else {
                            let mut lanes = [0f32; LANES];
                            values.store(lanes.as_mut_ptr());
                            to.add(at).copy_from_nonoverlapping(lanes.as_ptr(), count);
                        }
                    }
                }
            }
            for at in fours_end..k {
                for line in 0..count {
                    let value = if line < held {
                        (*lines.from.add((first + line) * lines.stride + at)).value()
                    } else {
                        0.0
                    };
                    *to.add(at * width + first + line) = value;
                }
            }
        }
    }
}
