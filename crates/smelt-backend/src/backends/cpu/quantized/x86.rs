//! [`Lanes`] in AVX2, and in AVX-512 with VNNI.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

use std::arch::x86_64::*;

use super::lanes::Lanes;
use crate::backends::cpu::matrix::Vector;

// SAFETY: of all that follows, the callers of `Lanes` promise the instruction set and the memory.

impl Lanes<16> for __m512 {
    type Sums = __m512i;
    const DIVIDES_BYTES: bool = false;

    #[inline(always)]
    unsafe fn load_words(from: *const u32, count: usize) -> Self {
        unsafe { _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(first(count), from.cast())) }
    }

    #[inline(always)]
    unsafe fn field<const SHIFT: u32>(self, mask: u8) -> Self {
        unsafe {
            let words = _mm512_castps_si512(self);
            let words = if SHIFT == 0 { words } else { _mm512_srli_epi16::<SHIFT>(words) };
            _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi8(mask.cast_signed())))
        }
    }

    #[inline(always)]
    unsafe fn no_sums() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn add_sums(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m512i, codes: Self, digits: *const u32) -> __m512i {
        unsafe {
            let digits = _mm512_set1_epi32((*digits).cast_signed());
            _mm512_dpbusd_epi32(sums, _mm512_castps_si512(codes), digits)
        }
    }

    #[inline(always)]
    unsafe fn number([low, middle, high]: [__m512i; 3]) -> Self {
        unsafe {
            let low = _mm512_cvtepi32_ps(_mm512_add_epi32(low, _mm512_slli_epi32::<8>(middle)));
            low.mul_add(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0))
        }
    }
}

/// A mask of the first `count` lanes, up to all 16.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

impl Lanes<8> for __m256 {
    type Sums = __m256i;
    const DIVIDES_BYTES: bool = true;

    #[inline(always)]
    unsafe fn load_words(from: *const u32, count: usize) -> Self {
        unsafe {
            if count >= 8 {
                return Self::load(from.cast());
            }
            let mut words = [0u32; 8];
            words.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load(words.as_ptr().cast())
        }
    }

    #[inline(always)]
    unsafe fn field<const SHIFT: u32>(self, mask: u8) -> Self {
        unsafe {
            let words = _mm256_castps_si256(self);
            let words = match SHIFT {
                0 => words,
                2 => _mm256_srli_epi16::<2>(words),
                4 => _mm256_srli_epi16::<4>(words),
                _ => _mm256_srli_epi16::<6>(words),
            };
            _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi8(mask.cast_signed())))
        }
    }

    #[inline(always)]
    unsafe fn no_sums() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn add_sums(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }

    /// Two products are below 2^15, so that the 16 bits in between hold them.
    #[inline(always)]
    unsafe fn dot(sums: __m256i, codes: Self, digits: *const u32) -> __m256i {
        unsafe {
            let digits = _mm256_set1_epi32((*digits).cast_signed());
            let pairs = _mm256_maddubs_epi16(_mm256_castps_si256(codes), digits);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    /// By halves of the codes: two products of bytes would not fit 16 bits.
    #[inline(always)]
    unsafe fn dot_of_bytes(sums: __m256i, codes: Self, digits: *const u32) -> __m256i {
        unsafe {
            let sums = Self::dot(sums, codes.field::<0>(15), digits);
            let digits = _mm256_set1_epi32((*digits).cast_signed());
            let pairs = _mm256_maddubs_epi16(_mm256_castps_si256(codes.field::<4>(15)), digits);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(16)))
        }
    }

    #[inline(always)]
    unsafe fn number([low, middle, high]: [__m256i; 3]) -> Self {
        unsafe {
            let low = _mm256_cvtepi32_ps(_mm256_add_epi32(low, _mm256_slli_epi32::<8>(middle)));
            low.mul_add(_mm256_cvtepi32_ps(high), _mm256_set1_ps(65536.0))
        }
    }
}
