//! Values of packed weights in f32, for what needs a few rows of them.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use std::cell::RefCell;

use super::lanes::Lanes;
use super::leaves;
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

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread works on, kept for the next row.
#[derive(Default)]
struct Scratch {
    codes: Vec<u8>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

/// Writes the values of the rows from `start` on, as many as there is room for, rounded to `R` as they are computed.
pub(super) fn rows<R: Scale, T: Scale>(weight: Packed<'_, T>, start: usize, to: &mut [f32]) {
    let inner = weight.inner();
    let count = (TASK_VALUES / inner).max(1);
    team::for_each(to.chunks_mut(count * inner).enumerate(), |(task, to)| {
        for (row, to) in to.chunks_exact_mut(inner).enumerate() {
            self::row::<R, T>(weight, start + task * count + row, Row::InOrder, to);
        }
    });
}

/// Writes the values of a row, rounded to `R` as they are computed.
pub(super) fn row<R: Scale, T: Scale>(weight: Packed<'_, T>, row: usize, order: Row, to: &mut [f32]) {
    let (format, inner) = (weight.format(), weight.inner());
    assert_eq!(to.len(), inner, "room for a row");
    let (packed, scales, biases) = weight.row(row);
    SCRATCH.with_borrow_mut(|scratch| {
        for (to, from) in [(&mut scratch.scales, scales), (&mut scratch.biases, biases)] {
            to.resize(from.len(), 0.0);
            // SAFETY: there is room for all.
            unsafe { leaves::widen(from.as_ptr(), from.len(), to.as_mut_ptr()) };
        }
        let groups = Groups {
            scales: scratch.scales.as_ptr(),
            biases: scratch.biases.as_ptr(),
            size: format.group_size(),
            count: scales.len(),
        };
        let direct = format.bits() == 8 || (format.bits() == 4 && order == Row::AsPacked);
        let codes = match direct {
            true => packed,
            false => {
                scratch.codes.resize(inner, 0);
                unpack(packed, format, &mut scratch.codes);
                &scratch.codes
            }
        };
        // SAFETY: there are `inner` codes, as bytes or halves of bytes, in so many groups, and as much room.
        unsafe {
            match codes.len() == inner {
                true => leaves::affine::<R>(codes.as_ptr(), groups, to.as_mut_ptr()),
                false => leaves::affine_of_pairs::<R>(codes.as_ptr(), groups, to.as_mut_ptr()),
            }
        }
    });
}

/// Scales and biases of a row.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub scales: *const f32,
    pub biases: *const f32,
    pub size: usize,
    pub count: usize,
}

/// Writes what codes stand for, each operation rounded to `R`.
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
                let product = R::rounded::<V, LANES>(V::load_bytes(codes.add(at)).mul(scale));
                R::rounded::<V, LANES>(product.add(bias)).store(to.add(at));
            }
        }
    }
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
    to: *mut f32,
) {
    const CODES: [f32; 16] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
    // SAFETY: the caller's promise; groups are several times [`PAIRED`].
    unsafe {
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
                for at in (0..PAIRED / 2).step_by(LANES) {
                    let [low, high] = V::look_up(table, codes.add(first / 2 + at));
                    low.store(to.add(first + at));
                    high.store(to.add(first + PAIRED / 2 + at));
                }
            }
        }
    }
}
