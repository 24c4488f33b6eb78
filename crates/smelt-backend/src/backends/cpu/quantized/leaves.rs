//! The loops of this module compiled for each instruction set, and called at the machine's.

#![allow(unsafe_code, reason = "calls of what needs an instruction set, on memory given by pointers")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

use super::dots::{self, Operand};
use super::expand::{self, Groups};
use super::kernel::{self, Codes, Numbers, Panel, Totals};
use super::panel::Output;
use super::scales::{self, Scale};
use super::unpack::{self, Rows};
use crate::backends::cpu::matrix::Portable;
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
    ($(#[$meta:meta])* fn $name:ident $(<$scale:ident>)? ($($arg:ident: $ty:ty),* $(,)?) = $body:path) => {
        $(#[$meta])*
        pub(super) unsafe fn $name $(<$scale: Scale>)? ($($arg: $ty),*) {
            use $body as body;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            unsafe fn avx512 $(<$scale: Scale>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { body::<__m512, 16 $(, $scale)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2 $(<$scale: Scale>)? ($($arg: $ty),*) {
                // SAFETY: the caller's promise, and the instruction set is on.
                unsafe { body::<__m256, 8 $(, $scale)?>($($arg),*) }
            }
            match quantized_level() {
                // SAFETY: `quantized_level` detected the instruction set; the rest is the caller's promise.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512 $(::<$scale>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2 $(::<$scale>)? ($($arg),*) },
                // SAFETY: the caller's promise; these need no instruction set.
                #[cfg(target_arch = "aarch64")]
                Level::Neon => unsafe { body::<Portable, 4 $(, $scale)?>($($arg),*) },
                // SAFETY: as above.
                Level::Baseline => unsafe { body::<Portable, 4 $(, $scale)?>($($arg),*) },
            }
        }
    };
}

at_level! {
    /// As [`scales::turn`].
    ///
    /// # Safety
    /// As there.
    fn turn<T>(rows: Rows<T>, groups: usize, to: *mut f32) = scales::turn
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

at_level! {
    /// As [`expand::affine`].
    ///
    /// # Safety
    /// As there.
    fn affine<R>(codes: *const u8, groups: Groups, to: *mut f32) = expand::affine
}

at_level! {
    /// As [`expand::affine_of_pairs`].
    ///
    /// # Safety
    /// As there.
    fn affine_of_pairs<R>(codes: *const u8, groups: Groups, to: *mut f32) = expand::affine_of_pairs
}

at_level! {
    /// As [`dots::dots`].
    ///
    /// # Safety
    /// As there.
    fn dots(w: Operand, x: Operand, inner: usize, to: Output) = dots::dots
}

at_level! {
    /// As [`scales::widen`].
    ///
    /// # Safety
    /// As there.
    fn widen<T>(from: *const T, count: usize, to: *mut f32) = scales::widen
}

at_level! {
    /// As [`dots::products`].
    ///
    /// # Safety
    /// As there.
    fn products<R>(codes: Rows<u8>, groups: Groups, x: *const f32, sums: *mut f32) = dots::products
}

at_level! {
    /// As [`dots::products_of_pairs`].
    ///
    /// # Safety
    /// As there.
    fn products_of_pairs<R>(codes: Rows<u8>, groups: Groups, x: *const f32, sums: *mut f32) = dots::products_of_pairs
}
