//! Registers of packed codes and of sums, so that a product with packed weights is written once for all instruction
//! sets.
//!
//! As those of [`Vector`], methods are instructions only inside of a function with the instruction set enabled.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

use crate::backends::cpu::matrix::{Portable, Vector};

/// A register of `LANES` words of 32 bits, one for each output: numbers as [`Vector`] sees them, or codes.
///
/// # Safety
/// As [`Vector`] says.
pub(super) trait Lanes<const LANES: usize>: Vector<LANES> {
    /// A sum of integers for each output.
    type Sums: Copy;
    /// Codes of 8 bits need [`Lanes::dot_of_bytes`], where [`Lanes::dot`] takes all others.
    const DIVIDES_BYTES: bool;

    /// The first `count` words at `from`, and zeros.
    unsafe fn load_words(from: *const u32, count: usize) -> Self;
    /// Field `SHIFT` bits up in every byte, of the width that `mask` has.
    unsafe fn field<const SHIFT: u32>(self, mask: u8) -> Self;

    unsafe fn no_sums() -> Self::Sums;
    unsafe fn add_sums(a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// `sums` plus the four products of bytes in each word: codes of up to 6 bits times the digits at `digits`.
    unsafe fn dot(sums: Self::Sums, codes: Self, digits: *const u32) -> Self::Sums;
    /// As [`Lanes::dot`] for codes of 8 bits.
    #[inline(always)]
    unsafe fn dot_of_bytes(sums: Self::Sums, codes: Self, digits: *const u32) -> Self::Sums {
        // SAFETY: the caller's promise.
        unsafe { Self::dot(sums, codes, digits) }
    }
    /// `low + 256 middle + 65536 high`, of sums below 2^23.
    unsafe fn number(sums: [Self::Sums; 3]) -> Self;
}

impl Lanes<4> for Portable {
    type Sums = [i32; 4];
    const DIVIDES_BYTES: bool = false;

    #[inline(always)]
    unsafe fn load_words(from: *const u32, count: usize) -> Self {
        // SAFETY: the caller's promise.
        Self(std::array::from_fn(|lane| match lane < count {
            true => f32::from_bits(unsafe { from.add(lane).read_unaligned() }),
            false => 0.0,
        }))
    }

    #[inline(always)]
    unsafe fn field<const SHIFT: u32>(self, mask: u8) -> Self {
        let mask = u32::from_ne_bytes([mask; 4]);
        Self(self.0.map(|word| f32::from_bits(word.to_bits() >> SHIFT & mask)))
    }

    #[inline(always)]
    unsafe fn no_sums() -> [i32; 4] {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn add_sums(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    unsafe fn dot(sums: [i32; 4], codes: Self, digits: *const u32) -> [i32; 4] {
        // SAFETY: the caller's promise.
        let digits = unsafe { *digits }.to_le_bytes().map(|digit| i32::from(digit as i8));
        std::array::from_fn(|lane| {
            let codes = codes.0[lane].to_bits().to_le_bytes().map(i32::from);
            let pairs = codes[0] * digits[0] + codes[1] * digits[1];
            sums[lane] + pairs + codes[2] * digits[2] + codes[3] * digits[3]
        })
    }

    #[inline(always)]
    unsafe fn number([low, middle, high]: [[i32; 4]; 3]) -> Self {
        let low = Self(std::array::from_fn(|lane| (low[lane] + (middle[lane] << 8)) as f32));
        let high = Self(high.map(|high| high as f32));
        // SAFETY: the caller's promise.
        unsafe { low.mul_add(high, Self::splat(&65536.0)) }
    }
}
