//! One row times codes of 4 or 8 bits where they lie, in AVX-512 with VNNI.
//!
//! Lanes are codes of one output, which are multiplied without being unpacked into memory or turned. Sums are added up
//! across lanes, for 16 outputs together; from there on all is as in `kernel`, and the same to the last bit, because
//! sums of integers are.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

use std::arch::x86_64::*;

use super::digits::{DIGITS, REGISTER_WORDS, UNIT};
use super::kernel::{InPlace, Numbers, Totals};
use super::lanes::Lanes;
use super::scales::Scale;
use super::turned::OUTPUTS;
use crate::backends::cpu::matrix::Vector;

/// How far behind the codes in use others are fetched, in words: rows lie behind each other.
const AHEAD: usize = 3 << 10;
/// How many panels ahead scales and biases are.
const PANELS_AHEAD: usize = 2;
/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Adds the products of the codes and one row to `totals`.
///
/// # Safety
/// The machine has AVX-512 with VNNI; everything holds as many groups and outputs as it should, and digits are in
/// registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn add<T: Scale>(codes: InPlace<T>, x: Numbers, totals: Totals) {
    // SAFETY: the caller's promise.
    unsafe {
        match codes.fields {
            1 => add_to::<T, 1>(codes, x, totals),
            2 => add_to::<T, 2>(codes, x, totals),
            fields => unreachable!("codes in {fields} fields in place"),
        }
    }
}

/// [`add`] where bytes have `FIELDS` codes.
#[inline(always)]
unsafe fn add_to<T: Scale, const FIELDS: usize>(codes: InPlace<T>, x: Numbers, to: Totals) {
    // SAFETY: the promise of `add`.
    unsafe {
        let starts = codes.codes.starts::<OUTPUTS>();
        let row_words = codes.groups * codes.units * UNIT / 4 / FIELDS;
        let mut total: __m512 = Vector::load(to.from);
        // A quarter of a register has the codes of a unit in one field, or half of them.
        let quarters = codes.units * 2 / FIELDS;
        let (mut group, mut half) = (0, [_mm512_setzero_si512(); 2]);
        for (index, first) in (0..row_words).step_by(REGISTER_WORDS).enumerate() {
            let words = REGISTER_WORDS.min(row_words - first);
            let ahead = codes.codes.from.wrapping_add(AHEAD + index * OUTPUTS * REGISTER_WORDS);
            let digits = x.words.add(index * FIELDS * DIGITS * REGISTER_WORDS);
            let [low, high] = match words {
                REGISTER_WORDS => sums::<FIELDS, true>(&starts, first, words, digits, ahead),
                _ => sums::<FIELDS, false>(&starts, first, words, digits, ahead),
            };
            let mut groups = [[low[0], high[0]]; 4];
            let count = match quarters {
                1 => {
                    let (low, high) = (turned(low), turned(high));
                    for (at, group) in groups.iter_mut().enumerate() {
                        *group = [low[at], high[at]];
                    }
                    4.min(codes.groups - group)
                }
                2 => {
                    let (low, high) = (by_halves(low), by_halves(high));
                    groups[0] = [low[0], high[0]];
                    groups[1] = [low[1], high[1]];
                    2.min(codes.groups - group)
                }
                4 => {
                    groups[0] = [whole(low), whole(high)];
                    1
                }
                // Every other register ends a group.
                _ => {
                    groups[0] =
                        [_mm512_add_epi32(half[0], whole(low)), _mm512_add_epi32(half[1], whole(high))];
                    half = if index % 2 == 0 { groups[0] } else { [_mm512_setzero_si512(); 2] };
                    index % 2
                }
            };
            for (at, [low, high]) in (group..).zip(groups).take(count) {
                let number = number(low, high).mul(Vector::splat(x.steps.add(at)));
                let scales = codes.scales.add(at * 2 * OUTPUTS);
                total = total.mul_add(number, T::load(scales, OUTPUTS));
                total = total.mul_add(Vector::splat(x.sums.add(at)), T::load(scales.add(OUTPUTS), OUTPUTS));
                // Of a panel after the next.
                let ahead: *const u8 = scales.wrapping_add(PANELS_AHEAD * codes.groups * 2 * OUTPUTS).cast();
                for line in (0..2 * OUTPUTS * size_of::<T>()).step_by(LINE) {
                    <__m512 as Vector<16>>::prefetch(ahead.wrapping_add(line));
                }
            }
            group += count;
        }
        total.store(to.from);
    }
}

/// The sums of one register of codes of each output times one row: of both lower digits together, and of the highest.
/// Register `i` holds outputs `4 i` to `4 i + 3`, those of each quarter of the codes side by side. Fetches as much from
/// `ahead` on.
#[inline(always)]
unsafe fn sums<const FIELDS: usize, const WHOLE: bool>(
    starts: &[*const u32; OUTPUTS],
    first: usize,
    words: usize,
    digits: *const u32,
    ahead: *const u32,
) -> [[__m512i; 4]; 2] {
    // SAFETY: the promise of `add`.
    unsafe {
        let mut digit_registers = [[_mm512_setzero_si512(); DIGITS]; FIELDS];
        for (at, digit) in digit_registers.as_flattened_mut().iter_mut().enumerate() {
            *digit = _mm512_loadu_si512(digits.add(at * REGISTER_WORDS).cast());
        }
        let [mut low, mut high] = [[_mm512_setzero_si512(); 4]; 2];
        for (at, starts) in starts.as_chunks::<4>().0.iter().enumerate() {
            let [mut four_low, mut four_high] = [[_mm512_setzero_si512(); 4]; 2];
            for (output, start) in starts.iter().enumerate() {
                // One line at a time: a processor waits for several at once.
                let line = ahead.wrapping_add((4 * at + output) * REGISTER_WORDS);
                <__m512 as Vector<16>>::prefetch(line.cast());
                let from = start.add(first);
                let codes = match WHOLE {
                    true => __m512::load(from.cast()),
                    false => __m512::load_words(from, words),
                };
                let mut sums = [_mm512_setzero_si512(); DIGITS];
                for (field, digits) in digit_registers.iter().enumerate() {
                    let codes = match (FIELDS, field) {
                        (1, _) => codes,
                        (_, 0) => codes.field::<0>(15),
                        _ => codes.field::<4>(15),
                    };
                    for (sum, digits) in sums.iter_mut().zip(digits) {
                        *sum = _mm512_dpbusd_epi32(*sum, _mm512_castps_si512(codes), *digits);
                    }
                }
                four_low[output] = _mm512_add_epi32(sums[0], _mm512_slli_epi32::<8>(sums[1]));
                four_high[output] = sums[2];
            }
            low[at] = added_in_quarters(four_low);
            high[at] = added_in_quarters(four_high);
        }
        [low, high]
    }
}

/// `low + 65536 high`
#[inline(always)]
unsafe fn number(low: __m512i, high: __m512i) -> __m512 {
    // SAFETY: the promise of `add`.
    unsafe { _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0), _mm512_cvtepi32_ps(low)) }
}

/// In each quarter, the sums of that quarter of the four registers.
#[inline(always)]
unsafe fn added_in_quarters([a, b, c, d]: [__m512i; 4]) -> __m512i {
    // SAFETY: the promise of `add`.
    unsafe {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
    }
}

/// Even quarters of `a` and `b`, and odd ones.
#[inline(always)]
unsafe fn parted(a: __m512i, b: __m512i) -> [__m512i; 2] {
    // SAFETY: the promise of `add`.
    unsafe { [_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b)] }
}

/// Quarter `i` of each register in turn.
#[inline(always)]
unsafe fn turned([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the promise of `add`.
    unsafe {
        let ([ab_even, ab_odd], [cd_even, cd_odd]) = (parted(a, b), parted(c, d));
        let ([first, third], [second, fourth]) = (parted(ab_even, cd_even), parted(ab_odd, cd_odd));
        [first, second, third, fourth]
    }
}

/// The first two quarters of each register in turn, added, and the last two.
#[inline(always)]
unsafe fn by_halves([a, b, c, d]: [__m512i; 4]) -> [__m512i; 2] {
    // SAFETY: the promise of `add`.
    unsafe {
        let ([ab_even, ab_odd], [cd_even, cd_odd]) = (parted(a, b), parted(c, d));
        parted(_mm512_add_epi32(ab_even, ab_odd), _mm512_add_epi32(cd_even, cd_odd))
    }
}

/// All quarters of each register in turn, added.
#[inline(always)]
unsafe fn whole(four: [__m512i; 4]) -> __m512i {
    // SAFETY: the promise of `add`.
    unsafe {
        let [first, last] = by_halves(four);
        _mm512_add_epi32(first, last)
    }
}
