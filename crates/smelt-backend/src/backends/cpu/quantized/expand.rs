//! Values of packed weights in f32, for what needs a few rows of them.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::lanes::Lanes;
use super::leaves::{self, MAX_LANES};
use super::panel::Packed;
use super::scales::Scale;
use super::unpack::Rows;
use crate::backends::cpu::team;
use crate::kernels::quantized::unpack;

/// Values that a thread expands at a time.
const TASK_VALUES: usize = 1 << 14;

/// Codes of 4 bits that [`Row::AsPacked`] takes apart together.
pub(super) const PAIRED: usize = 32;

/// Rows that [`products`] multiplies side by side: a machine would wait for the sum of one.
pub(super) const TOGETHER: usize = 4;

/// The order in which the values of a row are written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Row {
    /// Their own.
    InOrder,
    /// Where bytes hold two codes: of each [`PAIRED`], first the even ones and then the odd ones.
    AsPacked,
}

/// What a thread works on, kept for the next row.
#[derive(Default)]
pub(super) struct Scratch {
    codes: Vec<u8>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

/// Writes the values of the rows from `start` on, as many as there is room for, rounded to `R` as they are computed.
pub(super) fn rows<R: Scale, T: Scale>(weight: Packed<'_, T>, start: usize, to: &mut [f32]) {
    let inner = weight.inner();
    let count = (TASK_VALUES / inner).max(1);
    team::for_each(to.chunks_mut(count * inner).enumerate(), |(task, to)| {
        let mut scratch = Scratch::default();
        for (row, to) in to.chunks_exact_mut(inner).enumerate() {
            self::row::<R, T>(weight, start + task * count + row, Row::InOrder, to, &mut scratch);
        }
    });
}

/// Writes the values of a row, rounded to `R` as they are computed.
pub(super) fn row<R: Scale, T: Scale>(
    weight: Packed<'_, T>,
    row: usize,
    order: Row,
    to: &mut [f32],
    scratch: &mut Scratch,
) {
    assert_eq!(to.len(), weight.inner(), "room for a row");
    let (codes, groups) = rows_of(weight, row, 1, order, scratch);
    // SAFETY: there are as many codes, as bytes or halves of bytes, in so many groups, and as much room.
    unsafe {
        match codes.stride == weight.inner() {
            true => leaves::affine::<R>(codes.from, groups, to.as_mut_ptr()),
            false => leaves::affine_of_pairs::<R>(codes.from, groups, to.as_mut_ptr()),
        }
    }
}

/// The products of `count` rows, up to [`TOGETHER`], with `x`, whose order is [`Row::AsPacked`]: what comes from writing
/// and multiplying them.
pub(super) fn products<R: Scale, T: Scale>(
    weight: Packed<'_, T>,
    first: usize,
    count: usize,
    x: &[f32],
    scratch: &mut Scratch,
) -> [f32; TOGETHER] {
    assert_eq!(x.len(), weight.inner(), "numbers of a row");
    let mut sums = [0.0; TOGETHER];
    let (codes, groups) = rows_of(weight, first, count, Row::AsPacked, scratch);
    // SAFETY: there are as many codes, as bytes or halves of bytes, in so many groups, and as many numbers.
    unsafe {
        match codes.stride == weight.inner() {
            true => leaves::products::<R>(codes, groups, x.as_ptr(), sums.as_mut_ptr()),
            false => leaves::products_of_pairs::<R>(codes, groups, x.as_ptr(), sums.as_mut_ptr()),
        }
    }
    sums
}

/// Codes of some rows, a byte each or as they are packed if that is two in a byte, and their groups.
fn rows_of<T: Scale>(
    weight: Packed<'_, T>,
    first: usize,
    count: usize,
    order: Row,
    scratch: &mut Scratch,
) -> (Rows<u8>, Groups) {
    let (format, inner) = (weight.format(), weight.inner());
    let groups = inner / format.group_size();
    let stride = groups.next_multiple_of(MAX_LANES);
    scratch.scales.resize(count * stride, 0.0);
    scratch.biases.resize(count * stride, 0.0);
    let in_place = format.bits() == 8 || (format.bits() == 4 && order == Row::AsPacked);
    scratch.codes.resize(if in_place { 0 } else { count * inner }, 0);
    for row in 0..count {
        let (packed, scales, biases) = weight.row(first + row);
        for (to, from) in [(&mut scratch.scales, scales), (&mut scratch.biases, biases)] {
            // SAFETY: there is room for all.
            unsafe { leaves::widen(from.as_ptr(), groups, to[row * stride..].as_mut_ptr()) };
        }
        if !in_place {
            unpack(packed, format, &mut scratch.codes[row * inner..(row + 1) * inner]);
        }
    }
    let packed = weight.row(first).0;
    let codes = match in_place {
        true => Rows { from: packed.as_ptr(), stride: packed.len(), count },
        false => Rows { from: scratch.codes.as_ptr(), stride: inner, count },
    };
    let (scales, biases) = (scratch.scales.as_ptr(), scratch.biases.as_ptr());
    (codes, Groups { scales, biases, stride, size: format.group_size(), count: groups })
}

/// Scales and biases of some rows, in f32.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub scales: *const f32,
    pub biases: *const f32,
    /// From a row to the next.
    pub stride: usize,
    pub size: usize,
    pub count: usize,
}

/// How far behind the codes in use others are fetched: a few rows, which lie behind each other.
pub(super) const AHEAD: usize = 2048;

/// Writes what the codes of a row stand for, each operation rounded to `R`.
///
/// # Safety
/// As [`Lanes`] says; there are as many codes, scales and biases, and as much room.
#[inline(always)]
pub(super) unsafe fn affine<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    codes: *const u8,
    groups: Groups,
    to: *mut f32,
) {
    // SAFETY: the caller's promise; groups are several registers.
    unsafe {
        for group in 0..groups.count {
            let [scale, bias] = [V::splat(groups.scales.add(group)), V::splat(groups.biases.add(group))];
            V::prefetch(codes.wrapping_add(group * groups.size + AHEAD));
            for at in (group * groups.size..(group + 1) * groups.size).step_by(LANES) {
                value::<V, LANES, R>(V::load_bytes(codes.add(at)), scale, bias).store(to.add(at));
            }
        }
    }
}

/// What codes stand for.
///
/// # Safety
/// As [`affine`].
#[inline(always)]
pub(super) unsafe fn value<V: Lanes<LANES>, const LANES: usize, R: Scale>(codes: V, scale: V, bias: V) -> V {
    // SAFETY: the promise of `affine`.
    unsafe { R::rounded::<V, LANES>(R::rounded::<V, LANES>(codes.mul(scale)).add(bias)) }
}

/// What the 16 codes of a group stand for.
///
/// # Safety
/// As [`affine`].
#[inline(always)]
pub(super) unsafe fn table<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    scale: *const f32,
    bias: *const f32,
) -> V::Table {
    const CODES: [f32; 16] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
    // SAFETY: the promise of `affine`.
    unsafe {
        let (scale, bias, mut values) = (V::splat(scale), V::splat(bias), [0f32; 16]);
        for at in (0..16).step_by(LANES) {
            let codes = V::load(CODES.as_ptr().add(at));
            value::<V, LANES, R>(codes, scale, bias).store(values.as_mut_ptr().add(at));
        }
        V::table(values.as_ptr())
    }
}

/// As [`affine`] for two codes in a byte, whose values are looked up; in the order of [`Row::AsPacked`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn affine_of_pairs<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    codes: *const u8,
    groups: Groups,
    to: *mut f32,
) {
    // SAFETY: the caller's promise; groups are several times [`PAIRED`].
    unsafe {
        for group in 0..groups.count {
            let table = table::<V, LANES, R>(groups.scales.add(group), groups.biases.add(group));
            V::prefetch(codes.wrapping_add(group * groups.size / 2 + AHEAD));
            for first in (group * groups.size..(group + 1) * groups.size).step_by(PAIRED) {
                for at in (0..PAIRED / 2).step_by(LANES) {
                    let [low, high] = V::look_up(table, codes.add(first / 2 + at));
                    low.store(to.add(first + at));
                    high.store(to.add(first + PAIRED / 2 + at));
                }
            }
        }
    }
}
