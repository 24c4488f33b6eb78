//! [`Sixteen`] in AVX-512, and in two registers of AVX2.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

use std::arch::x86_64::*;

use super::sixteen::Sixteen;
use crate::backends::cpu::matrix::Vector;

// SAFETY: of all that follows, the callers of `Sixteen` promise the instruction set and the memory.

impl Sixteen for __m512 {
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { Vector::splat(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { Vector::store(self, to) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Vector::add(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Vector::mul(self, other) }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const f32, count: usize) -> Self {
        unsafe { _mm512_maskz_loadu_ps(lanes(count), from) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16, count: usize) -> Self {
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(count), from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16, count: usize) -> Self {
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes(count), from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn in_f16(self) -> Self {
        unsafe { _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self)) }
    }

    #[inline(always)]
    unsafe fn in_bf16(self) -> Self {
        unsafe {
            let power = _mm512_and_si512(_mm512_castps_si512(self), _mm512_set1_epi32(SIGN_AND_EXPONENT));
            let (power, dropped) = (_mm512_castsi512_ps(power), _mm512_set1_ps(DROPPED));
            _mm512_fnmadd_ps(power, dropped, _mm512_fmadd_ps(power, dropped, self))
        }
    }
}

/// Of a number in f32.
const SIGN_AND_EXPONENT: i32 = 0xff80_0000_u32.cast_signed();
/// 2 to the number of digits that f32 has and bf16 has not. A number plus this times its own power of two loses them,
/// rounded to even.
const DROPPED: f32 = 65536.0;

/// A mask of the first `count` lanes, up to all 16.
#[inline(always)]
fn lanes(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

/// Lanes 0 to 7, and 8 to 15.
impl Sixteen for [__m256; 2] {
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { [Vector::splat(from); 2] }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            Vector::store(self[0], to);
            Vector::store(self[1], to.add(8));
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { [Vector::add(self[0], other[0]), Vector::add(self[1], other[1])] }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { [Vector::mul(self[0], other[0]), Vector::mul(self[1], other[1])] }
    }

    #[inline(always)]
    unsafe fn load_f32(from: *const f32, count: usize) -> Self {
        unsafe {
            let numbers = padded(from, count);
            [Vector::load(numbers.as_ptr()), Vector::load(numbers[8..].as_ptr())]
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16, count: usize) -> Self {
        unsafe {
            let [low, high] = halves(padded(from, count));
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16, count: usize) -> Self {
        unsafe {
            let [low, high] = halves(padded(from, count));
            let [low, high] = [_mm256_cvtepu16_epi32(low), _mm256_cvtepu16_epi32(high)];
            let [low, high] = [_mm256_slli_epi32::<16>(low), _mm256_slli_epi32::<16>(high)];
            [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            let [low, high] =
                [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))];
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn in_f16(self) -> Self {
        unsafe {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self[0]);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self[1]);
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn in_bf16(self) -> Self {
        unsafe { [eight_in_bf16(self[0]), eight_in_bf16(self[1])] }
    }
}

/// [`Sixteen::in_bf16`] of eight.
#[inline(always)]
unsafe fn eight_in_bf16(x: __m256) -> __m256 {
    unsafe {
        let power = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(SIGN_AND_EXPONENT));
        let (power, dropped) = (_mm256_castsi256_ps(power), _mm256_set1_ps(DROPPED));
        _mm256_fnmadd_ps(power, dropped, _mm256_fmadd_ps(power, dropped, x))
    }
}

/// The first `count` values at `from`, and zeros.
#[inline(always)]
unsafe fn padded<T: Copy + Default>(from: *const T, count: usize) -> [T; 16] {
    unsafe {
        if count >= 16 {
            return from.cast::<[T; 16]>().read_unaligned();
        }
        let mut all = [T::default(); 16];
        all.as_mut_ptr().copy_from_nonoverlapping(from, count);
        all
    }
}

#[inline(always)]
unsafe fn halves(bits: [u16; 16]) -> [__m128i; 2] {
    unsafe { [_mm_loadu_si128(bits.as_ptr().cast()), _mm_loadu_si128(bits.as_ptr().add(8).cast())] }
}
