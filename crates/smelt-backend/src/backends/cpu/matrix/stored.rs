//! Formats that a matrix may be held in; products widen them in registers.

#![allow(unsafe_code, reason = "reads memory given by pointers")]

use half::{bf16, f16};

use super::vector::Vector;

/// A format of the elements of a matrix.
pub(in super::super) trait Stored: Copy + Send + Sync + 'static {
    /// Numbers in 32 bits: lanes hold that many until they are widened.
    const PER_LANE: usize;

    /// This number in f32.
    fn value(self) -> f32;

    /// The numbers in the lanes of `v`, first ones first; as many as [`Stored::PER_LANE`] says count.
    ///
    /// # Safety
    /// As [`Vector`] says.
    unsafe fn widened<V: Vector<LANES>, const LANES: usize>(v: V) -> [V; 2];
}

impl Stored for f32 {
    const PER_LANE: usize = 1;

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn widened<V: Vector<LANES>, const LANES: usize>(v: V) -> [V; 2] {
        [v, v]
    }
}

impl Stored for bf16 {
    const PER_LANE: usize = 2;

    #[inline(always)]
    fn value(self) -> f32 {
        bf16_value(self.to_bits())
    }

    #[inline(always)]
    unsafe fn widened<V: Vector<LANES>, const LANES: usize>(v: V) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { v.pairs_of_bf16() }
    }
}

impl Stored for f16 {
    const PER_LANE: usize = 2;

    #[inline(always)]
    fn value(self) -> f32 {
        f16_value(self.to_bits())
    }

    #[inline(always)]
    unsafe fn widened<V: Vector<LANES>, const LANES: usize>(v: V) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { v.pairs_of_f16() }
    }
}

/// The number with these bits in bf16.
#[inline(always)]
pub(super) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The number with these bits in f16, exact for every finite one, by moving its bits into an f32 and scaling;
/// infinities and NaN stay what they are.
#[inline(always)]
pub(super) fn f16_value(bits: u16) -> f32 {
    /// `2^112`: the difference between the exponents' biases.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(bits);
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * SCALE;
    let magnitude =
        if bits & 0x7c00 == 0x7c00 { (bits & 0x03ff) << 13 | 0x7f80_0000 } else { magnitude.to_bits() };
    f32::from_bits(magnitude | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_becomes_its_f32() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (f16_value(bits), f16::from_bits(bits).to_f32());
            assert!(
                found == expected || (found.is_nan() && expected.is_nan()),
                "{bits:#x}: {found}, not {expected}"
            );
        }
    }
}
