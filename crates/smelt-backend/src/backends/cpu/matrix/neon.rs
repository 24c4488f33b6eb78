//! [`Vector`] in NEON, which every AArch64 machine has.

#![allow(unsafe_code, reason = "instructions on memory given by pointers")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::vector::Vector;

// SAFETY of all that follows: NEON is part of the architecture; the callers of `Vector` promise the memory.

impl Vector<4> for float32x4_t {
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { vld1q_dup_f32(from) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { vaddq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { vmulq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        unsafe { vfmaq_f32(self, a, b) }
    }

    #[inline(always)]
    unsafe fn transposed([r0, r1, r2, r3]: [Self; 4]) -> [Self; 4] {
        unsafe {
            // Lanes 0 and 2, and 1 and 3, of two rows each.
            let (even, odd) = (vtrn1q_f32(r0, r1), vtrn2q_f32(r0, r1));
            let (next_even, next_odd) = (vtrn1q_f32(r2, r3), vtrn2q_f32(r2, r3));
            let halves = |a: Self, b: Self| {
                let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
                [vreinterpretq_f32_f64(vtrn1q_f64(a, b)), vreinterpretq_f32_f64(vtrn2q_f64(a, b))]
            };
            let ([c0, c2], [c1, c3]) = (halves(even, next_even), halves(odd, next_odd));
            [c0, c1, c2, c3]
        }
    }

    #[inline(always)]
    unsafe fn four_columns<T>([from, ..]: [*const T; 4], stride: usize) -> [Self; 4] {
        unsafe {
            let row = |row: usize| Self::load(from.add(row * stride).cast());
            Self::transposed([row(0), row(1), row(2), row(3)])
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_bf16(self) -> [Self; 2] {
        unsafe {
            let bits = vreinterpretq_u32_f32(self);
            let high = vandq_u32(bits, vdupq_n_u32(0xffff_0000));
            [vreinterpretq_f32_u32(vshlq_n_u32::<16>(bits)), vreinterpretq_f32_u32(high)]
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_f16(self) -> [Self; 2] {
        unsafe {
            let bits = vreinterpretq_u32_f32(self);
            [widened(vandq_u32(bits, vdupq_n_u32(0xffff))), widened(vshrq_n_u32::<16>(bits))]
        }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch reads nothing that the program could see.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
        }
    }
}

/// As [`super::stored::f16_value`], of bits in the low half of each lane.
#[inline(always)]
unsafe fn widened(bits: uint32x4_t) -> float32x4_t {
    /// `2^112`: the difference between the exponents' biases.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    unsafe {
        let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
        let finite = vreinterpretq_u32_f32(vmulq_n_f32(vreinterpretq_f32_u32(magnitude), SCALE));
        let special = vorrq_u32(magnitude, vdupq_n_u32(0x7f80_0000));
        let is_special = vcgeq_u32(magnitude, vdupq_n_u32(0x7c00 << 13));
        let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
        vreinterpretq_f32_u32(vorrq_u32(vbslq_u32(is_special, special, finite), sign))
    }
}
