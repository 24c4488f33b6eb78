//! [`Values`] with AVX512-FP16, which computes 32 numbers at a time.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

use std::arch::x86_64::*;
use std::hint::black_box;

use half::bf16;

use super::sixteen::Sixteen;
use super::values::{Computed, UNIT, Values};

// SAFETY: of all that follows, the callers of `Values` promise the instruction set and the memory.

/// Values of bytes in f16.
pub(super) struct Bytes;

impl Values for Bytes {
    type Register = __m512;
    type Kept = ();
    type Group = [__m512h; 2];
    const BYTES: usize = UNIT;

    #[inline(always)]
    unsafe fn kept() {}

    #[inline(always)]
    unsafe fn prepare(constants: *mut f32, stride: usize) {
        unsafe { narrow(constants, stride) }
    }

    #[inline(always)]
    unsafe fn group(constants: *const f32, stride: usize) -> [__m512h; 2] {
        unsafe { [all(constants), all(constants.add(stride))] }
    }

    #[inline(always)]
    unsafe fn of(_kept: (), [scale, bias]: [__m512h; 2], codes: *const u8) -> [__m512; 2] {
        unsafe {
            let codes = _mm512_cvtepu16_ph(_mm512_cvtepu8_epi16(_mm256_loadu_si256(codes.cast())));
            let values = _mm512_add_ph(_mm512_mul_ph(codes, scale), bias);
            let high = _mm256_castpd_ph(_mm512_extractf64x4_pd::<1>(_mm512_castph_pd(values)));
            [_mm512_cvtxph_ps(_mm512_castph512_ph256(values)), _mm512_cvtxph_ps(high)]
        }
    }
}

/// Values of two codes in a byte in f16.
pub(super) struct Pairs;

impl Values for Pairs {
    type Register = __m512;
    type Kept = ();
    type Group = __m512;
    const BYTES: usize = UNIT / 2;

    #[inline(always)]
    unsafe fn kept() {}

    #[inline(always)]
    unsafe fn prepare(constants: *mut f32, stride: usize) {
        unsafe { narrow(constants, stride) }
    }

    #[inline(always)]
    unsafe fn group(constants: *const f32, stride: usize) -> __m512 {
        unsafe {
            let codes = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let scale = _mm512_castph512_ph256(all(constants));
            let bias = _mm512_castph512_ph256(all(constants.add(stride)));
            _mm512_cvtxph_ps(_mm256_add_ph(_mm256_mul_ph(_mm256_cvtepu16_ph(codes), scale), bias))
        }
    }

    #[inline(always)]
    unsafe fn of(_kept: (), table: __m512, codes: *const u8) -> [__m512; 2] {
        unsafe { [table.look_up::<0>(codes), table.look_up::<1>(codes)] }
    }
}

/// Replaces each scale and bias by two of it in f16, which one lane broadcasts.
#[inline(always)]
unsafe fn narrow(constants: *mut f32, stride: usize) {
    for at in (0..2 * stride).step_by(16) {
        unsafe {
            let to = constants.add(at);
            twice(_mm512_loadu_ps(to), to);
        }
    }
}

/// Writes two of each number in f16.
#[inline(always)]
unsafe fn twice(numbers: __m512, to: *mut f32) {
    unsafe {
        let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(numbers);
        let words = _mm512_cvtepu16_epi32(halves);
        _mm512_storeu_si512(to.cast(), _mm512_or_si512(words, _mm512_slli_epi32::<16>(words)));
    }
}

/// The number in f16 that is twice at `from`, in every lane.
#[inline(always)]
unsafe fn all(from: *const f32) -> __m512h {
    unsafe { _mm512_castsi512_ph(_mm512_set1_epi32((*from).to_bits().cast_signed())) }
}

/// Values of bytes in bf16, computed in f16 where that is exact.
///
/// Let `b` be the bias without its sign, `s` the scale, and `r` the product with a code, rounded to bf16; the value is
/// `r - b`, rounded, or its opposite. In units of half a last place of `b`, `b` is from 256 to 512 and even, and:
///
/// - `s` times a code has 16 digits. It is rounded to 8, as to the digits of bf16, by adding 8 times its own power of
///   two, which leaves the sum no further digits in f16: one rounding, of the exact product.
/// - Where `r` is at least 128, it is a whole number, and so is `r - b`. Where that is from 128 to 256, it is rounded to
///   whole numbers, and from 256 on to even ones. So is the distance of f16's numbers from 1024 to 2048, and from 2048
///   on: 1792 more has the right digits. Other differences have at most 8 digits, provided that `r - b` is 512 or less,
///   and no rounding changes them.
///
/// What MLX and who follows it choose as scale and bias is so: of different signs, and no product is over twice `b` by
/// more than roundings. Other groups are computed in f32.
pub(super) struct BytesOfBf16;

#[derive(Clone, Copy)]
pub(super) struct GroupOfBf16 {
    scale: __m512h,
    eight_scales: __m512h,
    offset: __m512h,
    unit: __m512,
    zero: __m512,
    /// Scale and bias, where the above is not of use.
    inexact: Option<[__m512; 2]>,
}

/// `s` in units of a group, which are half a last place of its bias.
const SCALE: usize = 2;
const EIGHT_SCALES: usize = 3;
/// `1792 + b` in units.
const OFFSET: usize = 4;
/// The unit, with the sign of the scale; 0 for a group that is computed in f32.
const UNIT_VALUE: usize = 5;
/// What is added to a product with the unit for what a number was raised by.
const ZERO: usize = 6;

/// Adding it to numbers makes f16 round those from 256 on to even ones; see [`BytesOfBf16`].
const EVEN_FROM_256: f32 = 1792.0;
/// In f16, 3328: raises differences to 1536 more than they are, and so to between 1024 and 2048, where bits count.
const RAISE: i16 = 0x6a80;
/// The upper bits of 2^23 in f32, where the bits of f32 count.
static COUNTING: [u16; 32] = [0x4b00; 32];
/// What 1536 looks like in f16, behind [`COUNTING`]: its bits are those of 1024, and 512 more.
const RAISED: f32 = ((1 << 23) + 0x6400 + 512) as f32;

/// Of the words that `unpacklo` and `unpackhi` take, which bytes become the first and the second 16 numbers.
static SPREAD: [u8; 64] = {
    // What is behind the bytes is 0.
    let (mut spread, mut word) = ([32; 64], 0);
    while word < 32 {
        let (part, within) = (word / 8, word % 8);
        spread[2 * word] = (4 * part + within % 4 + within / 4 * 16) as u8;
        word += 1;
    }
    spread
};

impl Values for BytesOfBf16 {
    type Register = __m512;
    /// [`SPREAD`] and [`COUNTING`].
    type Kept = [__m512i; 2];
    type Group = GroupOfBf16;
    const BYTES: usize = UNIT;

    #[inline(always)]
    unsafe fn kept() -> [__m512i; 2] {
        // Shuffles that the compiler knows become slower ones.
        unsafe {
            let spread = _mm512_loadu_si512(black_box(&SPREAD).as_ptr().cast());
            [spread, _mm512_loadu_si512(black_box(&COUNTING).as_ptr().cast())]
        }
    }

    #[inline(always)]
    unsafe fn prepare(constants: *mut f32, stride: usize) {
        unsafe {
            for at in (0..stride).step_by(16) {
                let first = constants.add(at);
                let (scale, bias) = (_mm512_loadu_ps(first), _mm512_loadu_ps(first.add(stride)));
                let exponent = _mm512_and_si512(_mm512_castps_si512(bias), _mm512_set1_epi32(0xff << 23));
                let unit = _mm512_sub_epi32(exponent, _mm512_set1_epi32(8 << 23));
                let per_unit = _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(254 << 23), unit));
                let units = _mm512_mul_ps(_mm512_abs_ps(scale), per_unit);
                let bias_units = _mm512_mul_ps(_mm512_abs_ps(bias), per_unit);
                twice(units, first.add(SCALE * stride));
                let eight_scales = _mm512_mul_ps(units, _mm512_set1_ps(8.0));
                twice(eight_scales, first.add(EIGHT_SCALES * stride));
                let offset = _mm512_add_ps(bias_units, _mm512_set1_ps(EVEN_FROM_256));
                twice(offset, first.add(OFFSET * stride));
                let unit = _mm512_maskz_or_epi32(
                    is_exact(scale, bias, units, bias_units),
                    unit,
                    _mm512_and_si512(_mm512_castps_si512(scale), _mm512_set1_epi32(i32::MIN)),
                );
                let unit = _mm512_castsi512_ps(unit);
                _mm512_storeu_ps(first.add(UNIT_VALUE * stride), unit);
                let zero = _mm512_mul_ps(unit, _mm512_set1_ps(-RAISED));
                _mm512_storeu_ps(first.add(ZERO * stride), zero);
            }
        }
    }

    #[inline(always)]
    unsafe fn group(constants: *const f32, stride: usize) -> GroupOfBf16 {
        unsafe {
            let unit = *constants.add(UNIT_VALUE * stride);
            let plain = [_mm512_set1_ps(*constants), _mm512_set1_ps(*constants.add(stride))];
            GroupOfBf16 {
                scale: all(constants.add(SCALE * stride)),
                eight_scales: all(constants.add(EIGHT_SCALES * stride)),
                offset: all(constants.add(OFFSET * stride)),
                unit: _mm512_set1_ps(unit),
                zero: _mm512_set1_ps(*constants.add(ZERO * stride)),
                inexact: if unit.to_bits() == 0 { Some(plain) } else { None },
            }
        }
    }

    #[inline(always)]
    unsafe fn of([spread, counting]: [__m512i; 2], group: GroupOfBf16, codes: *const u8) -> [__m512; 2] {
        unsafe {
            if let Some(group) = group.inexact {
                return Computed::<__m512, bf16>::of((), group, codes);
            }
            let bytes = _mm512_zextsi256_si512(_mm256_loadu_si256(codes.cast()));
            let codes = _mm512_cvtepu16_ph(_mm512_permutexvar_epi8(spread, bytes));
            let power = _mm512_castph_si512(_mm512_mul_ph(codes, group.eight_scales));
            let power = _mm512_castsi512_ph(_mm512_and_si512(power, _mm512_set1_epi16(0x1f << 10)));
            let product = _mm512_sub_ph(_mm512_fmadd_ph(codes, group.scale, power), power);
            let difference = _mm512_sub_ph(product, group.offset);
            let raise = _mm512_castsi512_ph(_mm512_set1_epi16(RAISE));
            let bits = _mm512_castph_si512(_mm512_add_ph(difference, raise));
            let low = _mm512_castsi512_ps(_mm512_unpacklo_epi16(bits, counting));
            let high = _mm512_castsi512_ps(_mm512_unpackhi_epi16(bits, counting));
            [_mm512_fmadd_ps(low, group.unit, group.zero), _mm512_fmadd_ps(high, group.unit, group.zero)]
        }
    }
}

/// Whether [`BytesOfBf16`] holds for groups, given their scales and biases, also in units without their signs.
#[inline(always)]
unsafe fn is_exact(scale: __m512, bias: __m512, units: __m512, bias_units: __m512) -> __mmask16 {
    // Far from where units, or products with them, would not be numbers of f32.
    const SMALLEST: f32 = 1e-18;
    const LARGEST: f32 = 1e18;
    unsafe {
        let signs = _mm512_xor_si512(_mm512_castps_si512(scale), _mm512_castps_si512(bias));
        let differ = _mm512_movepi32_mask(signs);
        let largest = _mm512_mul_ps(units, _mm512_set1_ps(255.0)).in_bf16();
        let bound = _mm512_add_ps(bias_units, _mm512_set1_ps(512.0));
        let below = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(largest, bound);
        let size = _mm512_abs_ps(bias);
        let usual = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(below, size, _mm512_set1_ps(SMALLEST));
        differ & _mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(usual, size, _mm512_set1_ps(LARGEST))
    }
}
