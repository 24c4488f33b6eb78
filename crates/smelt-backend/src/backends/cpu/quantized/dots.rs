//! Products with packed weights whose values are rounded to 16 bits, in f32: some outputs are expanded into the first
//! cache, and multiplied with all rows there.
//!
//! Every number of the result is one sum in each lane along the row, whatever the number of rows and outputs.

#![allow(unsafe_code, reason = "pieces of one matrix are written by several threads, in registers")]

use std::cell::RefCell;

use super::expand::{self, AHEAD, Groups, PAIRED, Row, Scratch, TOGETHER};
use super::lanes::Lanes;
use super::leaves;
use super::panel::{Output, Packed, piece_outputs};
use super::scales::Scale;
use super::unpack::Rows;
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
                    for first in outputs.clone().step_by(TOGETHER) {
                        let count = TOGETHER.min(outputs.end - first);
                        let sums = expand::products::<R, T>(weight, first, count, ordered, scratch);
                        for (row, sum) in sums.iter().enumerate().take(count) {
                            // SAFETY: the output is in the buffer, and of no other piece.
                            unsafe { *output.at(0, first + row).to += sum };
                        }
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

/// The sum of all lanes, by halves.
#[inline(always)]
unsafe fn added<V: Lanes<LANES>, const LANES: usize>(sum: V) -> f32 {
    let mut lanes = [0f32; LANES];
    // SAFETY: the promise of `dots`.
    unsafe { sum.store(lanes.as_mut_ptr()) };
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The products of [`TOGETHER`] rows of codes with one of `x`: what [`dots`] makes of their values, which exist in
/// registers only. Values are rounded to `R`.
///
/// # Safety
/// As [`Lanes`] says; there are as many codes, scales, biases and numbers, and room for the sums.
#[inline(always)]
pub(super) unsafe fn products<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    codes: Rows<u8>,
    groups: Groups,
    x: *const f32,
    sums: *mut f32,
) {
    // SAFETY: the caller's promise; groups are several registers.
    unsafe {
        let starts = codes.starts::<TOGETHER>();
        let mut totals = [V::zero(); TOGETHER];
        for group in 0..groups.count {
            let mut scales = [[V::zero(); 2]; TOGETHER];
            for (row, scale) in scales.iter_mut().enumerate() {
                let at = row.min(codes.count - 1) * groups.stride + group;
                *scale = [V::splat(groups.scales.add(at)), V::splat(groups.biases.add(at))];
                V::prefetch(starts[row].wrapping_add(group * groups.size + AHEAD));
            }
            for at in (group * groups.size..(group + 1) * groups.size).step_by(LANES) {
                let x = V::load(x.add(at));
                for (row, total) in totals.iter_mut().enumerate() {
                    let [scale, bias] = scales[row];
                    let codes = V::load_bytes(starts[row].add(at));
                    *total = total.mul_add(x, expand::value::<V, LANES, R>(codes, scale, bias));
                }
            }
        }
        for (row, total) in totals.iter().enumerate() {
            *sums.add(row) = added::<V, LANES>(*total);
        }
    }
}

/// As [`products`] for two codes in a byte, whose values are looked up; `x` is in the order of [`Row::AsPacked`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn products_of_pairs<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    codes: Rows<u8>,
    groups: Groups,
    x: *const f32,
    sums: *mut f32,
) {
    // SAFETY: the caller's promise; groups are several times [`PAIRED`].
    unsafe {
        let starts = codes.starts::<TOGETHER>();
        let mut totals = [V::zero(); TOGETHER];
        for group in 0..groups.count {
            let table = |row: usize| {
                let at = row.min(codes.count - 1) * groups.stride + group;
                (groups.scales.add(at), groups.biases.add(at))
            };
            let first_table = table(0);
            let mut tables = [expand::table::<V, LANES, R>(first_table.0, first_table.1); TOGETHER];
            for (row, to) in tables.iter_mut().enumerate().skip(1) {
                let (scale, bias) = table(row);
                *to = expand::table::<V, LANES, R>(scale, bias);
            }
            for start in starts {
                V::prefetch(start.wrapping_add(group * groups.size / 2 + AHEAD));
            }
            for first in (group * groups.size..(group + 1) * groups.size).step_by(PAIRED) {
                for (row, total) in totals.iter_mut().enumerate() {
                    let mut high = [V::zero(); PAIRED / 2];
                    for (part, high) in high.iter_mut().enumerate().take(PAIRED / 2 / LANES) {
                        let at = part * LANES;
                        let [low, upper] = V::look_up(tables[row], starts[row].add(first / 2 + at));
                        *total = total.mul_add(V::load(x.add(first + at)), low);
                        *high = upper;
                    }
                    for (part, high) in high.iter().enumerate().take(PAIRED / 2 / LANES) {
                        let x = V::load(x.add(first + PAIRED / 2 + part * LANES));
                        *total = total.mul_add(x, *high);
                    }
                }
            }
        }
        for (row, total) in totals.iter().enumerate() {
            *sums.add(row) = added::<V, LANES>(*total);
        }
    }
}
