//! Products with packed weights whose values are rounded to 16 bits, in f32: some outputs are expanded into the first
//! cache, and multiplied with all rows there.
//!
//! Every number of the result is one sum in each lane along the row, whatever the number of rows and outputs.

#![allow(unsafe_code, reason = "pieces of one matrix are written by several threads, in registers")]

use std::cell::RefCell;

use super::expand::{self, PAIRED, Row, Scratch, added};
use super::lanes::Lanes;
use super::leaves;
use super::panel::{Output, Packed, piece_outputs};
use super::scales::Scale;
use crate::backends::cpu::matrix::View;
use crate::backends::cpu::team;

/// Outputs that are expanded at a time.
const OUTPUTS: usize = 8;

thread_local! {
    static ORDERED: RefCell<Vec<f32>> = RefCell::default();
    /// Values of some outputs, and what expanding one takes.
    static SCRATCH: RefCell<(Vec<f32>, Scratch)> = RefCell::default();
}

/// Adds `x weight^T` to `y`, row-major, where values are rounded to `R`.
///
/// # Panics
/// If the shapes do not fit each other.
pub(super) fn product<R: Scale, T: Scale>(y: &mut [f32], x: View<'_>, weight: Packed<'_, T>) {
    let (inner, outer) = (weight.inner(), weight.outer());
    assert_eq!(x.columns, inner, "{} features of x, and those of the weight", x.columns);
    assert_eq!(y.len(), x.rows * outer, "{} rows of {outer} outputs", x.rows);
    let output = Output { to: y.as_mut_ptr(), row_stride: outer };
    ORDERED.with_borrow_mut(|ordered| {
        ordered.resize(x.rows * inner, 0.0);
        let rows = ordered.chunks_exact_mut(inner).enumerate();
        rows.for_each(|(row, to)| order(x.row(row), weight.format().bits() == 4, to));
        let (ordered, output) = (&*ordered, &output);
        let piece = piece_outputs(&weight, OUTPUTS);
        team::each(outer.div_ceil(piece), &|index| {
            let outputs = index * piece..outer.min((index + 1) * piece);
            SCRATCH.with_borrow_mut(|(expanded, scratch)| {
                if x.rows == 1 {
                    for row in outputs {
                        let sum = expand::dot::<R, T>(weight, row, ordered, scratch);
                        // SAFETY: the output is in the buffer, and of no other piece.
                        unsafe { *output.at(0, row).to += sum };
                    }
                    return;
                }
                expanded.resize(OUTPUTS * inner, 0.0);
                for first in outputs.clone().step_by(OUTPUTS) {
                    let count = OUTPUTS.min(outputs.end - first);
                    for (output, to) in expanded.chunks_exact_mut(inner).enumerate().take(count) {
                        expand::row::<R, T>(weight, first + output, Row::AsPacked, to, scratch);
                    }
                    // SAFETY: the assertions above hold all numbers within their buffers; outputs of pieces do not
                    // overlap.
                    unsafe {
                        let w = Operand { from: expanded.as_ptr(), count };
                        let x = Operand { from: ordered.as_ptr(), count: x.rows };
                        leaves::dots(w, x, inner, output.at(0, first));
                    }
                }
            });
        });
    });
}

/// Numbers in the order in which codes are expanded as they are packed.
fn order(x: &[f32], paired: bool, to: &mut [f32]) {
    if !paired {
        return to.copy_from_slice(x);
    }
    for (x, to) in x.chunks_exact(PAIRED).zip(to.chunks_exact_mut(PAIRED)) {
        let (low, high) = to.split_at_mut(PAIRED / 2);
        for (pair, (low, high)) in x.as_chunks::<2>().0.iter().zip(low.iter_mut().zip(high)) {
            (*low, *high) = (pair[0], pair[1]);
        }
    }
}

/// Rows of numbers that lie behind each other.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub from: *const f32,
    pub count: usize,
}

/// Adds the products of all rows of `w` and all of `x`, of `inner` numbers each, to `to`.
///
/// # Safety
/// As [`Lanes`] says; there are as many numbers, and `inner` is a multiple of 32.
#[inline(always)]
pub(super) unsafe fn dots<V: Lanes<LANES>, const LANES: usize>(
    w: Operand,
    x: Operand,
    inner: usize,
    to: Output,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = 0;
        while row < x.count {
            // As many sums as there are registers for.
            let rows = if LANES == 16 && x.count - row >= 4 { 4 } else { 2.min(x.count - row) };
            let mut output = 0;
            while output < w.count {
                let from = [w.from.add(output * inner), x.from.add(row * inner)];
                let (to, left) = (to.at(row, output), w.count - output);
                output += match (rows, left) {
                    (1, 4..) => tile::<V, LANES, 4, 1>(from, inner, to),
                    (1, _) => tile::<V, LANES, 1, 1>(from, inner, to),
                    (2, 4..) => tile::<V, LANES, 4, 2>(from, inner, to),
                    (2, _) => tile::<V, LANES, 1, 2>(from, inner, to),
                    (_, 4..) => tile::<V, LANES, 4, 4>(from, inner, to),
                    (_, _) => tile::<V, LANES, 1, 4>(from, inner, to),
                };
            }
            row += rows;
        }
    }
}

/// The products of `O` rows of `w` and `R` of `x`; returns `O`.
#[inline(always)]
unsafe fn tile<V: Lanes<LANES>, const LANES: usize, const O: usize, const R: usize>(
    [w, x]: [*const f32; 2],
    inner: usize,
    to: Output,
) -> usize {
    // SAFETY: the promise of `dots`.
    unsafe {
        let mut sums = [[V::zero(); O]; R];
        for at in (0..inner).step_by(LANES) {
            let mut values = [V::zero(); O];
            for (output, value) in values.iter_mut().enumerate() {
                *value = V::load(w.add(output * inner + at));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = V::load(x.add(row * inner + at));
                for (sum, value) in sums.iter_mut().zip(&values) {
                    *sum = sum.mul_add(x, *value);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (output, sum) in sums.iter().enumerate() {
                *to.at(row, output).to += added::<V, LANES>(*sum);
            }
        }
        O
    }
}
