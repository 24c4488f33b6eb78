//! Products with packed weights whose values are rounded to 16 bits, in f32: of one row, values exist in registers only;
//! for more, some outputs are expanded into the first cache, and multiplied with all rows there.
//!
//! Every number of the result is one sum in each of 16 lanes along the row, whatever the number of rows and outputs, and
//! whatever the instruction set.

#![allow(unsafe_code, reason = "pieces of one matrix are written by several threads, in registers")]

use std::cell::RefCell;

use super::expand::{self, Scratch};
use super::leaves;
use super::panel::{Output, Packed, piece_outputs};
use super::scales::Scale;
use super::sixteen::{LANES, Sixteen, added};
use super::unpack::Rows;
use super::values::{Groups, PackedOrder, UNIT, Values};
use crate::backends::cpu::matrix::View;
use crate::backends::cpu::team;

/// Outputs that are expanded at a time.
const OUTPUTS: usize = 8;
/// Outputs whose groups are prepared together, where rows are multiplied where they lie.
const PREPARED: usize = 32;
/// Outputs of which that multiplies so many side by side: a machine would wait for the sum of one.
const TOGETHER: usize = 4;
/// How far behind the codes in use others are fetched, in bytes: rows lie behind each other.
const AHEAD: usize = 8 << 10;

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
    let order = if weight.format().bits() == 4 { PackedOrder::Pairs } else { PackedOrder::Bytes };
    ORDERED.with_borrow_mut(|ordered| {
        ordered.resize(x.rows * inner, 0.0);
        let rows = ordered.chunks_exact_mut(inner).enumerate();
        rows.for_each(|(row, to)| write_ordered(x.row(row), order, to));
        let (ordered, output) = (&*ordered, &output);
        let piece = piece_outputs(&weight, OUTPUTS);
        team::each(outer.div_ceil(piece), &|index| {
            let outputs = index * piece..outer.min((index + 1) * piece);
            SCRATCH.with_borrow_mut(|(expanded, scratch)| {
                if x.rows == 1 {
                    for first in outputs.clone().step_by(PREPARED) {
                        let count = PREPARED.min(outputs.end - first);
                        let rows = expand::prepared::<R, T>(weight, first, count, order, scratch);
                        // SAFETY: the rows were prepared for `R`, and `ordered` is as long; outputs are in the buffer,
                        // and of no other piece.
                        unsafe {
                            let to = output.at(0, first).to;
                            leaves::products::<R>(order, rows.codes, rows.groups, ordered.as_ptr(), to);
                        }
                    }
                    return;
                }
                expanded.resize(OUTPUTS * inner, 0.0);
                for first in outputs.clone().step_by(OUTPUTS) {
                    let count = OUTPUTS.min(outputs.end - first);
                    expand::write::<R, T>(weight, first, order, &mut expanded[..count * inner], scratch);
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

/// Numbers in the order in which values come from codes.
fn write_ordered(x: &[f32], order: PackedOrder, to: &mut [f32]) {
    if order == PackedOrder::Bytes {
        return to.copy_from_slice(x);
    }
    for (x, to) in x.as_chunks::<UNIT>().0.iter().zip(to.as_chunks_mut::<UNIT>().0) {
        *to = std::array::from_fn(|at| x[order.source(at)]);
    }
}

/// Adds the products of all rows of codes with one of `x` to `to`: what [`dots`] makes of their values.
///
/// # Safety
/// As [`Values`] says; there are as many codes, groups, numbers and sums.
#[inline(always)]
pub(super) unsafe fn products<D: Values>(codes: Rows<u8>, groups: Groups, x: *const f32, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let kept = D::kept();
        for first in (0..codes.count).step_by(TOGETHER) {
            let count = TOGETHER.min(codes.count - first);
            let codes = Rows { from: codes.from.add(first * codes.stride), count, ..codes };
            let groups = Groups { constants: groups.constants.add(first * groups.count), ..groups };
            let totals = few_products::<D>(kept, codes, groups, x);
            for (row, total) in totals.iter().enumerate().take(count) {
                *to.add(first + row) += sum(*total);
            }
        }
    }
}

/// The products of up to [`TOGETHER`] rows, before their lanes are added.
///
/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn few_products<D: Values>(
    kept: D::Kept,
    codes: Rows<u8>,
    groups: Groups,
    x: *const f32,
) -> [D::Register; TOGETHER] {
    const LINE: usize = 64;
    // SAFETY: the caller's promise; groups are whole units.
    unsafe {
        let starts = codes.starts::<TOGETHER>();
        let mut totals = [D::Register::zero(); TOGETHER];
        let units = groups.size / UNIT;
        for index in 0..groups.count {
            let mut group = [D::group(groups.constants.add(index), groups.stride); TOGETHER];
            for (row, group) in group.iter_mut().enumerate().skip(1) {
                let at = row.min(codes.count - 1) * groups.count + index;
                *group = D::group(groups.constants.add(at), groups.stride);
            }
            for unit in index * units..(index + 1) * units {
                let lines = D::BYTES * TOGETHER / LINE;
                for line in unit * lines..(unit + 1) * lines {
                    D::Register::prefetch(codes.from.wrapping_add(AHEAD + line * LINE));
                }
                let x = x.add(unit * UNIT);
                let x = [D::Register::load(x), D::Register::load(x.add(LANES))];
                for (row, total) in totals.iter_mut().enumerate() {
                    let [first, second] = D::of(kept, group[row], starts[row].add(unit * D::BYTES));
                    *total = total.mul_add(x[0], first).mul_add(x[1], second);
                }
            }
        }
        totals
    }
}

/// The sum of all lanes.
#[inline(always)]
unsafe fn sum<V: Sixteen>(total: V) -> f32 {
    let mut lanes = [0f32; LANES];
    // SAFETY: the caller has the instruction set.
    unsafe { total.store(lanes.as_mut_ptr()) };
    added(lanes)
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
/// As [`Sixteen`] says; there are as many numbers, and `inner` is a multiple of 16.
#[inline(always)]
pub(super) unsafe fn dots<V: Sixteen>(w: Operand, x: Operand, inner: usize, to: Output) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = 0;
        while row < x.count {
            // As many sums as there are registers for.
            let left = x.count - row;
            let rows = if V::REGISTERS == 1 && left >= 4 { 4 } else { left.min(2) };
            let mut output = 0;
            while output < w.count {
                let from = [w.from.add(output * inner), x.from.add(row * inner)];
                let (to, left) = (to.at(row, output), w.count - output);
                output += match (rows, left) {
                    (1, 4..) if V::REGISTERS == 1 => tile::<V, 4, 1>(from, inner, to),
                    (1, 2..) => tile::<V, 2, 1>(from, inner, to),
                    (1, _) => tile::<V, 1, 1>(from, inner, to),
                    (2, 4..) if V::REGISTERS == 1 => tile::<V, 4, 2>(from, inner, to),
                    (2, 2..) => tile::<V, 2, 2>(from, inner, to),
                    (2, _) => tile::<V, 1, 2>(from, inner, to),
                    (_, 4..) => tile::<V, 4, 4>(from, inner, to),
                    (_, _) => tile::<V, 1, 4>(from, inner, to),
                };
            }
            row += rows;
        }
    }
}

/// The products of `O` rows of `w` and `R` of `x`; returns `O`.
#[inline(always)]
unsafe fn tile<V: Sixteen, const O: usize, const R: usize>(
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
            for (output, total) in sums.iter().enumerate() {
                *to.at(row, output).to += sum(*total);
            }
        }
        O
    }
}
