//! The loops of this module compiled for each instruction set, and called at the machine's.

#![allow(unsafe_code, reason = "calls of what needs an instruction set, on memory given by pointers")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

use super::kernel::{self, Codes, InPlace, Numbers, Panel, Totals};
use super::scales::{self, Scale};
use super::sixteen::LANES;
use super::unpack::{self, Rows};
use super::values::{self, Row};
use crate::backends::cpu::matrix::Portable;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::backends::cpu::simd::multiplies_squares_of_bytes;
use crate::backends::cpu::simd::{Level, level};

/// The level that products with packed weights use: AVX-512 is of use with VNNI only.
fn quantized_level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        static VNNI: OnceLock<bool> = OnceLock::new();
        if level() == Level::Avx512 && !VNNI.get_or_init(|| is_x86_feature_detected!("avx512vnni")) {
            return Level::Avx2;
        }
    }
    level()
}

/// The most that [`lanes`] says.
pub(super) const MAX_LANES: usize = 16;

/// Outputs that are computed side by side.
pub(super) fn lanes() -> usize {
    match quantized_level() {
        Level::Baseline => 4,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => 4,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 8,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => 16,
    }
}

/// Defines a function that calls `$body::<V, LANES, ..>` at the machine's instruction set.
macro_rules! at_level {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:path) => {
        $(#[$meta])*
        pub(super) unsafe fn $name($($arg: $ty),*) {
            use $body as body;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { body::<__m512, 16>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { body::<__m256, 8>($($arg),*) }
            }
            match quantized_level() {
                // SAFETY: `quantized_level` detected the instruction set; the rest is the caller's promise.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: the caller's promise; these need no instruction set.
                #[cfg(target_arch = "aarch64")]
                Level::Neon => unsafe { body::<Portable, 4>($($arg),*) },
                // SAFETY: as above.
                Level::Baseline => unsafe { body::<Portable, 4>($($arg),*) },
            }
        }
    };
}

at_level! {
    /// As [`unpack::turn`].
    ///
    /// # Safety
    /// As there.
    fn turn(rows: Rows<f32>, groups: usize, to: *mut f32) = unpack::turn
}

at_level! {
    /// As [`unpack::unpack`].
    ///
    /// # Safety
    /// As there.
    fn unpack(rows: Rows<u32>, words: usize, fields: usize, to: *mut f32, ahead: *const u32) = unpack::unpack
}

at_level! {
    /// As [`kernel::add_groups`].
    ///
    /// # Safety
    /// As there.
    fn add_groups(codes: Codes, x: Numbers, totals: Totals) = kernel::add_groups
}

at_level! {
    /// As [`kernel::add_panel`].
    ///
    /// # Safety
    /// As there.
    fn add_panel(panel: Panel, codes: Codes, x: Numbers, totals: Totals, room: *mut f32) = kernel::add_panel
}

/// Whether one row is multiplied with codes where they lie.
pub(super) fn multiplies_in_place() -> bool {
    #[cfg(target_arch = "x86_64")]
    return quantized_level() == Level::Avx512;
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// As [`super::in_place::add`].
///
/// # Safety
/// As there; [`multiplies_in_place`].
pub(super) unsafe fn add_in_place<T: Scale>(codes: InPlace<T>, x: Numbers, totals: Totals) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    unsafe {
        super::in_place::add(codes, x, totals);
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("{} groups of codes in place: {}, {:p}", codes.groups, x.rows, totals.from);
}

/// Whether many rows are multiplied in squares, where groups have so many codes.
pub(super) fn multiplies_in_squares(group_size: usize) -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return multiplies_squares_of_bytes()
        && quantized_level() == Level::Avx512
        && super::squares::divide(group_size);
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        let _ = group_size;
        false
    }
}

/// As [`super::squares::set_up`].
///
/// # Safety
/// As there.
pub(super) unsafe fn in_squares(work: impl FnOnce()) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: the caller's promise.
    unsafe {
        super::squares::set_up(work);
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    work();
}

/// As [`super::squares::add_groups`].
///
/// # Safety
/// As there.
pub(super) unsafe fn add_in_squares(panels: &[Codes], x: Numbers, totals: Totals) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: the caller's promise.
    unsafe {
        super::squares::add_groups(panels, x, totals);
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    unreachable!("{} panels in squares: {}, {:p}", panels.len(), x.rows, totals.from);
}

/// Defines a function that calls `$body::<V>` with the sixteen numbers of the machine's instruction set.
macro_rules! of_sixteen {
    ($(#[$meta:meta])* fn $name:ident $(<$($scale:ident),+>)? ($($arg:ident: $ty:ty),* $(,)?) = $body:path) => {
        $(#[$meta])*
        pub(super) unsafe fn $name $(<$($scale: Scale),+>)? ($($arg: $ty),*) {
            use $body as body;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512 $(<$($scale: Scale),+>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { body::<__m512 $($(, $scale)+)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2 $(<$($scale: Scale),+>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { body::<[__m256; 2] $($(, $scale)+)?>($($arg),*) }
            }
            match level() {
                // SAFETY: `level` detected the instruction set; the rest is the caller's promise.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512 $(::<$($scale),+>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2 $(::<$($scale),+>)? ($($arg),*) },
                // SAFETY: the caller's promise; this one needs no instruction set.
                _ => unsafe { body::<[f32; LANES] $($(, $scale)+)?>($($arg),*) },
            }
        }
    };
}

of_sixteen! {
    /// Writes `count` numbers in f32, and zeros up to a multiple of 16.
    ///
    /// # Safety
    /// There are as many, and as much room.
    fn widen<T>(from: *const T, count: usize, to: *mut f32) = scales::widen
}

of_sixteen! {
    /// As [`values::write`].
    ///
    /// # Safety
    /// As there.
    fn write<R, T>(row: Row<T>, to: *mut f32) = values::write
}
