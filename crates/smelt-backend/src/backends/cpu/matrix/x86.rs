//! [`Vector`] in AVX2 with FMA, and in AVX-512.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

use std::arch::x86_64::*;

use super::vector::Vector;

#[inline(always)]
fn prefetch(address: *const u8) {
    // Through all caches, although it is of use once: past the second, a Sapphire Rapids reads at a third of the rate.
    // SAFETY: SSE is part of the architecture, and a prefetch reads nothing that the program could see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

// SAFETY of all that follows: the callers of `Vector` promise the instruction set and the memory.

impl Vector<16> for __m512 {
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm512_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn transposed(rows: [Self; 16]) -> [Self; 16] {
        unsafe {
            // Lane `l` of `fours[4 b + c]` holds column `4 l + c` of rows `4 b..4 b + 4`.
            let mut fours = rows;
            for b in 0..4 {
                let of_four = [rows[4 * b], rows[4 * b + 1], rows[4 * b + 2], rows[4 * b + 3]];
                fours[4 * b..4 * b + 4].copy_from_slice(&fours_of_rows_512(of_four));
            }
            let mut columns = rows;
            for c in 0..4 {
                let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
                let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (next_even, next_odd) =
                    (_mm512_shuffle_f32x4::<0x88>(d, e), _mm512_shuffle_f32x4::<0xdd>(d, e));
                columns[c] = _mm512_shuffle_f32x4::<0x88>(even, next_even);
                columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd, next_odd);
                columns[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even, next_even);
                columns[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd, next_odd);
            }
            columns
        }
    }

    #[inline(always)]
    unsafe fn four_columns<T>(from: [*const T; 4], stride: usize) -> [Self; 4] {
        unsafe {
            // Quarter `q` of `rows[r]` is row `4 q + r`.
            let mut rows = [Self::zero(); 4];
            for (row, to) in rows.iter_mut().enumerate() {
                let at = row * stride;
                *to = _mm512_castps128_ps512(_mm_loadu_ps(from[0].add(at).cast()));
                *to = _mm512_insertf32x4::<1>(*to, _mm_loadu_ps(from[1].add(at).cast()));
                *to = _mm512_insertf32x4::<2>(*to, _mm_loadu_ps(from[2].add(at).cast()));
                *to = _mm512_insertf32x4::<3>(*to, _mm_loadu_ps(from[3].add(at).cast()));
            }
            fours_of_rows_512(rows)
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_bf16(self) -> [Self; 2] {
        unsafe {
            let bits = _mm512_castps_si512(self);
            let high = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)), _mm512_castsi512_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_f16(self) -> [Self; 2] {
        unsafe {
            let bits = _mm512_castps_si512(self);
            let high = _mm512_srli_epi32::<16>(bits);
            [_mm512_cvtph_ps(_mm512_cvtepi32_epi16(bits)), _mm512_cvtph_ps(_mm512_cvtepi32_epi16(high))]
        }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        prefetch(address);
    }
}

impl Vector<8> for __m256 {
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { _mm256_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm256_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn transposed(rows: [Self; 8]) -> [Self; 8] {
        unsafe {
            // Half `h` of `fours[4 b + c]` holds column `4 h + c` of rows `4 b..4 b + 4`.
            let mut fours = rows;
            for b in 0..2 {
                let of_four = [rows[4 * b], rows[4 * b + 1], rows[4 * b + 2], rows[4 * b + 3]];
                fours[4 * b..4 * b + 4].copy_from_slice(&fours_of_rows_256(of_four));
            }
            let mut columns = rows;
            for c in 0..4 {
                columns[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
                columns[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
            }
            columns
        }
    }

    #[inline(always)]
    unsafe fn four_columns<T>(from: [*const T; 4], stride: usize) -> [Self; 4] {
        unsafe {
            // Half `h` of `rows[r]` is row `4 h + r`.
            let mut rows = [Self::zero(); 4];
            for (row, to) in rows.iter_mut().enumerate() {
                let at = row * stride;
                *to = _mm256_castps128_ps256(_mm_loadu_ps(from[0].add(at).cast()));
                *to = _mm256_insertf128_ps::<1>(*to, _mm_loadu_ps(from[1].add(at).cast()));
            }
            fours_of_rows_256(rows)
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_bf16(self) -> [Self; 2] {
        unsafe {
            let bits = _mm256_castps_si256(self);
            let high = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff_0000u32 as i32));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)), _mm256_castsi256_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn pairs_of_f16(self) -> [Self; 2] {
        unsafe {
            let bits = _mm256_castps_si256(self);
            let low = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff));
            let high = _mm256_srli_epi32::<16>(bits);
            // Each half of `packed` holds four of `low`, then four of `high`.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
            let (low, high) = (_mm256_castsi256_si128(packed), _mm256_extracti128_si256::<1>(packed));
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        prefetch(address);
    }
}

/// Columns of each 4 x 4 numbers that quarters of four registers are.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn fours_of_rows_512([r0, r1, r2, r3]: [__m512; 4]) -> [__m512; 4] {
    unsafe {
        let (low, high) = (_mm512_unpacklo_ps(r0, r1), _mm512_unpackhi_ps(r0, r1));
        let (next_low, next_high) = (_mm512_unpacklo_ps(r2, r3), _mm512_unpackhi_ps(r2, r3));
        [
            _mm512_shuffle_ps::<0x44>(low, next_low),
            _mm512_shuffle_ps::<0xee>(low, next_low),
            _mm512_shuffle_ps::<0x44>(high, next_high),
            _mm512_shuffle_ps::<0xee>(high, next_high),
        ]
    }
}

/// Columns of each 4 x 4 numbers that halves of four registers are.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn fours_of_rows_256([r0, r1, r2, r3]: [__m256; 4]) -> [__m256; 4] {
    unsafe {
        let (low, high) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
        let (next_low, next_high) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
        [
            _mm256_shuffle_ps::<0x44>(low, next_low),
            _mm256_shuffle_ps::<0xee>(low, next_low),
            _mm256_shuffle_ps::<0x44>(high, next_high),
            _mm256_shuffle_ps::<0xee>(high, next_high),
        ]
    }
}
