//! The loops of this module compiled for each instruction set, and called at the machine's.

#![allow(unsafe_code, reason = "calls of what needs an instruction set, on memory given by pointers")]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::float32x4_t;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use super::BLOCK_K;
use super::pack::{Lines, pack as pack_lines};
use super::stored::Stored;
use super::tile::{self, Output, Rows};
use super::vector::{Portable, Vector};
use crate::backends::cpu::simd::{Level, level};

/// Defines a function that calls `$body::<V, LANES, ..>` at the machine's instruction set.
macro_rules! at_level {
    (
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident $(<$stored:ident: $bound:ident>)? ($($arg:ident: $ty:ty),* $(,)?) = $body:ident
    ) => {
        $(#[$meta])*
        $visibility unsafe fn $name $(<$stored: $bound>)? ($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512 $(<$stored: $bound>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { $body::<__m512, 16 $(, $stored)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2 $(<$stored: $bound>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { $body::<__m256, 8 $(, $stored)?>($($arg),*) }
            }
            match level() {
                // SAFETY: the caller's promise; `level` detected the instruction set on this machine.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512 $(::<$stored>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2 $(::<$stored>)? ($($arg),*) },
                // SAFETY: the caller's promise; every machine of this architecture has the instruction set.
                #[cfg(target_arch = "aarch64")]
                Level::Neon => unsafe {
                    $body::<float32x4_t, 4 $(, $stored)?>($($arg),*)
                },
                // SAFETY: the caller's promise; this one needs no instruction set.
                Level::Baseline => unsafe {
                    $body::<Portable, 4 $(, $stored)?>($($arg),*)
                },
            }
        }
    };
}

/// `$body` where `$name` is the number among those listed that `$count` is.
macro_rules! for_count {
    ($count:expr, [$($number:literal)+], $name:ident => $body:expr) => {
        match $count {
            $($number => {
                const $name: usize = $number;
                $body
            })+
            count => unreachable!("{count} at a time"),
        }
    };
}

/// `LANES` of the machine's registers, and the rows of its tiles.
pub(super) fn tile_shape() -> (usize, usize) {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => (16, <__m512 as Vector<16>>::ROWS),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => (8, <__m256 as Vector<8>>::ROWS),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => (4, <float32x4_t as Vector<4>>::ROWS),
        Level::Baseline => (4, <Portable as Vector<4>>::ROWS),
    }
}

/// Rows of `x` that [`few_rows`] takes.
pub(super) const FEW_ROWS: usize = 8;

at_level! {
    /// As [`pack_lines`].
    ///
    /// # Safety
    /// As there.
    pub(super) fn pack<T: Stored>(lines: Lines<T>, k: usize, width: usize, to: *mut f32, ahead: *const T) = pack_lines
}

at_level! {
    /// Writes rows of `x`, up to [`FEW_ROWS`], as `[k][rows]`.
    ///
    /// # Safety
    /// Rows hold `k` numbers, and `to` has room for them all.
    pub(super) fn pack_few(x: Rows<f32>, k: usize, to: *mut f32) = pack_few_of
}

at_level! {
    /// As [`tile::few_rows`], for `rows` up to [`FEW_ROWS`].
    ///
    /// # Safety
    /// As there.
    pub(super) fn few_rows<T: Stored>(rows: usize, x: *const f32, w: Rows<T>, k: usize, output: Output) = few_rows_of
}

at_level! {
    /// Up to [`FEW_ROWS`] rows of `a` times the columns of `b`, of which each register is a panel.
    ///
    /// # Safety
    /// As [`tile::columns`] for each of its registers; `b.count` is a multiple of `LANES`.
    pub(super) fn few_rows_by_columns(k: usize, a: Rows<f32>, b: Panels, output: Output) = all_columns
}

at_level! {
    /// `rows` rows of `a`, packed in panels of as many as a tile has, times panels of `b`.
    ///
    /// # Safety
    /// As [`tile::tile`] for each tile.
    pub(super) fn tiles(k: usize, a: Panels, b: Panels, output: Output) = all_tiles
}

at_level! {
    /// Rows of `a` as they lie, whose numbers are `step` apart, times panels of `b`.
    ///
    /// # Safety
    /// As [`tile::tile`] for each tile.
    pub(super) fn tiles_of_rows(k: usize, a: Rows<f32>, step: usize, b: Panels, output: Output) = all_tiles_of_rows
}

/// Packed rows of `a` or columns of `b`.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub from: *const f32,
    pub count: usize,
    /// From one number of `k` to the next, in `b`.
    pub step: usize,
    /// From one panel to the next, in `b`.
    pub stride: usize,
}

#[inline(always)]
unsafe fn pack_few_of<V: Vector<LANES>, const LANES: usize>(x: Rows<f32>, k: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { for_count!(x.count, [1 2 3 4 5 6 7 8], R => tile::pack_few::<R>(x, k, to)) }
}

#[inline(always)]
unsafe fn few_rows_of<V: Vector<LANES>, const LANES: usize, T: Stored>(
    rows: usize,
    x: *const f32,
    w: Rows<T>,
    k: usize,
    output: Output,
) {
    // SAFETY: the caller's promise.
    unsafe { for_count!(rows, [1 2 3 4 5 6 7 8], R => tile::few_rows::<V, LANES, T, R>(x, w, k, output)) }
}

#[inline(always)]
unsafe fn all_columns<V: Vector<LANES>, const LANES: usize>(
    k: usize,
    a: Rows<f32>,
    b: Panels,
    output: Output,
) {
    // SAFETY: the caller's promise.
    unsafe { for_count!(a.count, [1 2 3 4 5 6 7 8], R => columns_of::<V, LANES, R>(k, a, b, output)) }
}

/// Two registers at a time for as long as there are, or four where rows leave room for that.
#[inline(always)]
unsafe fn columns_of<V: Vector<LANES>, const LANES: usize, const R: usize>(
    k: usize,
    a: Rows<f32>,
    b: Panels,
    output: Output,
) {
    // SAFETY: the promise of `all_columns`.
    unsafe {
        let mut column = 0;
        while column < b.count {
            let (from, output) = (b.from.add(column), output.at(0, column));
            column += LANES
                * match (b.count - column) / LANES {
                    4.. if 4 * R <= LANES => tile::columns::<V, LANES, R, 4>(k, a, from, b.step, output),
                    2.. => tile::columns::<V, LANES, R, 2>(k, a, from, b.step, output),
                    _ => tile::columns::<V, LANES, R, 1>(k, a, from, b.step, output),
                };
        }
    }
}

#[inline(always)]
unsafe fn all_tiles<V: Vector<LANES>, const LANES: usize>(k: usize, a: Panels, b: Panels, output: Output) {
    // SAFETY: the caller's promise.
    unsafe {
        each_tile::<V, LANES>(k, a.count, b, output, |row, rows| (a.from.add(row * k), 1, rows));
    }
}

#[inline(always)]
unsafe fn all_tiles_of_rows<V: Vector<LANES>, const LANES: usize>(
    k: usize,
    a: Rows<f32>,
    step: usize,
    b: Panels,
    output: Output,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if step == 1 {
            each_tile::<V, LANES>(k, a.count, b, output, |row, _| (a.from.add(row * a.stride), a.stride, 1));
        } else if a.stride == 1 {
            each_tile::<V, LANES>(k, a.count, b, output, |row, _| (a.from.add(row), 1, step));
        } else {
            each_tile::<V, LANES>(k, a.count, b, output, |row, _| {
                (a.from.add(row * a.stride), a.stride, step)
            });
        }
    }
}

/// The product of `count` rows, of which `rows_from` gives those from one on: see [`tile::tile`].
#[inline(always)]
unsafe fn each_tile<V: Vector<LANES>, const LANES: usize>(
    k: usize,
    count: usize,
    b: Panels,
    output: Output,
    rows_from: impl Fn(usize, usize) -> (*const f32, usize, usize),
) {
    debug_assert!(k <= BLOCK_K, "{k} numbers in one chain");
    // SAFETY: the caller's promise.
    unsafe {
        for (panel, column) in (0..b.count).step_by(2 * LANES).enumerate() {
            let (b_panel, columns) = (b.from.add(panel * b.stride), b.count - column);
            let mut row = 0;
            while row < count {
                let rows = V::ROWS.min(count - row);
                let output = output.at(row, column);
                one_tile::<V, LANES>(rows, k, rows_from(row, rows), b_panel, b.step, columns, output);
                row += rows;
            }
        }
    }
}

#[inline(always)]
unsafe fn one_tile<V: Vector<LANES>, const LANES: usize>(
    rows: usize,
    k: usize,
    a: (*const f32, usize, usize),
    b: *const f32,
    b_step: usize,
    columns: usize,
    output: Output,
) {
    // SAFETY: the promise of `each_tile`.
    unsafe {
        for_count!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], R => tile::tile::<V, LANES, R>(k, a, b, b_step, columns, output))
    }
}
