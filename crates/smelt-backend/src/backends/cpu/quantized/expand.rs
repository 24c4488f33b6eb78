//! Values of packed weights in f32, for what needs a few rows of them.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::lanes::Lanes;
use super::leaves::{self, MAX_LANES};
use super::panel::Packed;
use super::scales::Scale;
use crate::backends::cpu::team;
use crate::kernels::quantized::unpack;

/// Values that a thread expands at a time.
const TASK_VALUES: usize = 1 << 14;

/// Codes of 4 bits that [`Row::AsPacked`] takes apart together.
pub(super) const PAIRED: usize = 32;

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
    // SAFETY: there is room.
    unsafe { work_on::<R, T>(weight, row, order, std::ptr::null(), to.as_mut_ptr(), scratch) }
}

/// The product of a row, in the order of [`Row::AsPacked`], with `x`: what comes from writing it and multiplying.
pub(super) fn dot<R: Scale, T: Scale>(
    weight: Packed<'_, T>,
    row: usize,
    x: &[f32],
    scratch: &mut Scratch,
) -> f32 {
    assert_eq!(x.len(), weight.inner(), "numbers of a row");
    let mut sum = 0.0;
    // SAFETY: there are as many numbers.
    unsafe { work_on::<R, T>(weight, row, Row::AsPacked, x.as_ptr(), &raw mut sum, scratch) }
    sum
}

/// Writes a row to `to`, or only its product with `x` if that is not null.
///
/// # Safety
/// There is room for a row or for a number, and there are as many numbers at `x`.
unsafe fn work_on<R: Scale, T: Scale>(
    weight: Packed<'_, T>,
    row: usize,
    order: Row,
    x: *const f32,
    to: *mut f32,
    scratch: &mut Scratch,
) {
    let (format, inner) = (weight.format(), weight.inner());
    let (packed, scales, biases) = weight.row(row);
    for (to, from) in [(&mut scratch.scales, scales), (&mut scratch.biases, biases)] {
        to.resize(from.len().next_multiple_of(MAX_LANES), 0.0);
        // SAFETY: there is room for all.
        unsafe { leaves::widen(from.as_ptr(), from.len(), to.as_mut_ptr()) };
    }
    let groups = Groups {
        scales: scratch.scales.as_ptr(),
        biases: scratch.biases.as_ptr(),
        size: format.group_size(),
        count: scales.len(),
    };
    let codes = match (format.bits(), order) {
        (8, _) | (4, Row::AsPacked) => packed,
        _ => {
            scratch.codes.resize(inner, 0);
            unpack(packed, format, &mut scratch.codes);
            &scratch.codes
        }
    };
    // SAFETY: there are `inner` codes, as bytes or halves of bytes, in so many groups; the rest is the caller's promise.
    unsafe {
        match codes.len() == inner {
            true => leaves::affine::<R>(codes.as_ptr(), groups, x, to),
            false => leaves::affine_of_pairs::<R>(codes.as_ptr(), groups, x, to),
        }
    }
}

/// Scales and biases of a row.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub scales: *const f32,
    pub biases: *const f32,
    pub size: usize,
    pub count: usize,
}

/// Writes what codes stand for, each operation rounded to `R`; or only their product with `x`, if that is not null.
///
/// # Safety
/// As [`Lanes`] says; there are as many codes, scales, biases and numbers, and as much room.
#[inline(always)]
pub(super) unsafe fn affine<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    codes: *const u8,
    groups: Groups,
    x: *const f32,
    to: *mut f32,
) {
    // SAFETY: the caller's promise; groups are several registers.
    unsafe {
        let mut sum = V::zero();
        for group in 0..groups.count {
            let [scale, bias] = [V::splat(groups.scales.add(group)), V::splat(groups.biases.add(group))];
            V::prefetch(codes.wrapping_add(group * groups.size + AHEAD));
            for at in (group * groups.size..(group + 1) * groups.size).step_by(LANES) {
                let product = R::rounded::<V, LANES>(V::load_bytes(codes.add(at)).mul(scale));
                let value = R::rounded::<V, LANES>(product.add(bias));
                sum = take::<V, LANES>(sum, value, at, x, to);
            }
        }
        finish::<V, LANES>(sum, x, to);
    }
}

/// Writes a value, or adds its product with the number in its place.
#[inline(always)]
unsafe fn take<V: Lanes<LANES>, const LANES: usize>(
    sum: V,
    value: V,
    at: usize,
    x: *const f32,
    to: *mut f32,
) -> V {
    // SAFETY: the promise of `affine`.
    unsafe {
        if x.is_null() {
            value.store(to.add(at));
            return sum;
        }
        sum.mul_add(V::load(x.add(at)), value)
    }
}

#[inline(always)]
unsafe fn finish<V: Lanes<LANES>, const LANES: usize>(sum: V, x: *const f32, to: *mut f32) {
    // SAFETY: the promise of `affine`.
    unsafe {
        if !x.is_null() {
            *to = added::<V, LANES>(sum);
        }
    }
}

/// The sum of all lanes, by halves.
///
/// # Safety
/// As [`Lanes`] says.
#[inline(always)]
pub(super) unsafe fn added<V: Lanes<LANES>, const LANES: usize>(sum: V) -> f32 {
    let mut lanes = [0f32; LANES];
    // SAFETY: the caller's promise.
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

/// How far behind the codes in use others are fetched: a few rows, which lie behind each other.
const AHEAD: usize = 2048;

/// As [`affine`] for two codes in a byte, whose values are looked up; in the order of [`Row::AsPacked`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn affine_of_pairs<V: Lanes<LANES>, const LANES: usize, R: Scale>(
    codes: *const u8,
    groups: Groups,
    x: *const f32,
    to: *mut f32,
) {
    const CODES: [f32; 16] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
    // SAFETY: the caller's promise; groups are several times [`PAIRED`].
    unsafe {
        let mut sum = V::zero();
        for group in 0..groups.count {
            let [scale, bias] = [V::splat(groups.scales.add(group)), V::splat(groups.biases.add(group))];
            let mut values = [0f32; 16];
            for at in (0..16).step_by(LANES) {
                let product = R::rounded::<V, LANES>(V::load(CODES.as_ptr().add(at)).mul(scale));
                R::rounded::<V, LANES>(product.add(bias)).store(values.as_mut_ptr().add(at));
            }
            let table = V::table(values.as_ptr());
            V::prefetch(codes.wrapping_add(group * groups.size / 2 + AHEAD));
            for first in (group * groups.size..(group + 1) * groups.size).step_by(PAIRED) {
                let mut high = [V::zero(); PAIRED / 2];
                for (part, high) in high.iter_mut().enumerate().take(PAIRED / 2 / LANES) {
                    let at = part * LANES;
                    let [low, upper] = V::look_up(table, codes.add(first / 2 + at));
                    sum = take::<V, LANES>(sum, low, first + at, x, to);
                    *high = upper;
                }
                for (part, high) in high.iter().enumerate().take(PAIRED / 2 / LANES) {
                    let at = first + PAIRED / 2 + part * LANES;
                    sum = take::<V, LANES>(sum, *high, at, x, to);
                }
            }
        }
        finish::<V, LANES>(sum, x, to);
    }
}
