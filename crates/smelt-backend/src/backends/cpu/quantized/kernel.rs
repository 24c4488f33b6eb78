//! The innermost loop: some rows of digits times the codes of as many outputs as a register has lanes.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::digits::{DIGITS, UNIT, UNIT_WORDS};
use super::lanes::Lanes;
use super::unpack::{Rows, unpack};

/// Some groups of the codes of `LANES` outputs.
#[derive(Clone, Copy)]
pub(super) struct Codes {
    /// `[four codes][output]`, a word each.
    pub words: *const f32,
    /// `[group][output]`
    pub scales: *const f32,
    /// `[group][output]`
    pub biases: *const f32,
    pub groups: usize,
    /// Units of a group.
    pub units: usize,
    /// Codes have 8 bits, and not less.
    pub bytes: bool,
}

/// The same groups of some rows, as in [`super::digits::Tile`].
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub words: *const u32,
    pub steps: *const f32,
    pub sums: *const f32,
    pub rows: usize,
}

/// Where the sums of some rows and of `LANES` outputs are.
#[derive(Clone, Copy)]
pub(super) struct Totals {
    pub from: *mut f32,
    /// From a row to the next.
    pub stride: usize,
}

/// All codes of `LANES` outputs, in the rows in which they are packed.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub rows: Rows<u32>,
    /// Words of a row.
    pub words: usize,
    /// Codes in each byte of a word.
    pub fields: usize,
    /// What is read next, as much as of this panel.
    pub ahead: *const u32,
}

/// All codes of some outputs that are multiplied where they lie, and what they stand for.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "multiplied so on one architecture"))]
pub(super) struct InPlace<T> {
    pub codes: Rows<u32>,
    /// Codes in each byte of a word.
    pub fields: usize,
    /// As [`super::turned::Turned`] has them.
    pub scales: *const T,
    pub groups: usize,
    /// Units of a group.
    pub units: usize,
}

/// Codes of an output that are unpacked before they are multiplied, where rows are few: a multiple of every group, and
/// few enough for a machine to do both at once.
const SPAN: usize = 128;
/// Panels that are multiplied at a time in squares.
pub(super) const PANELS_OF_SQUARES: usize = 2;
/// Numbers that a span has in the widest register.
pub(super) const SPAN_NUMBERS: usize = SPAN / 4 * 16;

/// Adds the products of a panel and one tile to `totals`; `codes` describes the panel, but for its codes, which are
/// unpacked into `room` for [`SPAN_NUMBERS`].
///
/// # Safety
/// As [`Lanes`] says; everything holds as many groups, rows and outputs as it should.
#[inline(always)]
pub(super) unsafe fn add_panel<V: Lanes<LANES>, const LANES: usize>(
    panel: Panel,
    codes: Codes,
    x: Numbers,
    totals: Totals,
    room: *mut f32,
) {
    let span_words = SPAN / 4 / panel.fields;
    let group_size = codes.units * UNIT;
    for start in (0..panel.words).step_by(span_words) {
        let words = span_words.min(panel.words - start);
        let length = words * 4 * panel.fields;
        let first = start * 4 * panel.fields / group_size;
        // SAFETY: the caller's promise.
        unsafe {
            let rows = Rows { from: panel.rows.from.add(start), ..panel.rows };
            let ahead = panel.ahead.wrapping_add(start * LANES);
            unpack::<V, LANES>(rows, words, panel.fields, room, ahead);
            let codes = Codes {
                words: room,
                scales: codes.scales.add(first * LANES),
                biases: codes.biases.add(first * LANES),
                groups: length / group_size,
                ..codes
            };
            let x = Numbers {
                words: x.words.add(first * codes.units * x.rows * UNIT_WORDS),
                steps: x.steps.add(first * x.rows),
                sums: x.sums.add(first * x.rows),
                ..x
            };
            add_groups::<V, LANES>(codes, x, totals);
        }
    }
}

/// Adds the products of the groups to `totals`, one group after the other.
///
/// # Safety
/// As [`Lanes`] says; everything holds as many groups, rows and outputs as it should.
#[inline(always)]
pub(super) unsafe fn add_groups<V: Lanes<LANES>, const LANES: usize>(
    codes: Codes,
    x: Numbers,
    totals: Totals,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if codes.bytes && V::DIVIDES_BYTES {
            add_to_rows::<V, LANES, true>(codes, x, totals);
        } else {
            add_to_rows::<V, LANES, false>(codes, x, totals);
        }
    }
}

#[inline(always)]
unsafe fn add_to_rows<V: Lanes<LANES>, const LANES: usize, const BYTES: bool>(
    codes: Codes,
    x: Numbers,
    totals: Totals,
) {
    // SAFETY: the promise of `add_groups`. Where rows are few, machines would wait for one chain of sums.
    unsafe {
        match x.rows {
            1 => add_to::<V, LANES, BYTES, 1, 2>(codes, x, totals),
            2 => add_to::<V, LANES, BYTES, 2, 2>(codes, x, totals),
            3 => add_to::<V, LANES, BYTES, 3, 2>(codes, x, totals),
            4 => add_to::<V, LANES, BYTES, 4, 1>(codes, x, totals),
            5 => add_to::<V, LANES, BYTES, 5, 1>(codes, x, totals),
            6 => add_to::<V, LANES, BYTES, 6, 1>(codes, x, totals),
            7 => add_to::<V, LANES, BYTES, 7, 1>(codes, x, totals),
            8 => add_to::<V, LANES, BYTES, 8, 1>(codes, x, totals),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }
}

/// [`add_groups`] of `R` rows, with `CHAINS` sums in each lane for the time of a group.
#[inline(always)]
unsafe fn add_to<
    V: Lanes<LANES>,
    const LANES: usize,
    const BYTES: bool,
    const R: usize,
    const CHAINS: usize,
>(
    codes: Codes,
    x: Numbers,
    to: Totals,
) {
    // SAFETY: the promise of `add_groups`.
    unsafe {
        let mut totals = [V::zero(); R];
        for (row, total) in totals.iter_mut().enumerate() {
            *total = V::load(to.from.add(row * to.stride));
        }
        let (mut words, mut digits) = (codes.words, x.words);
        for group in 0..codes.groups {
            let mut sums = [[[V::no_sums(); DIGITS]; R]; CHAINS];
            for _ in 0..codes.units {
                for quad in 0..UNIT / 4 {
                    let four = V::load(words.add(quad * LANES));
                    for (row, sums) in sums[quad % CHAINS].iter_mut().enumerate() {
                        for (digit, sum) in sums.iter_mut().enumerate() {
                            let at = row * UNIT_WORDS + digit * (UNIT / 4) + quad;
                            *sum = match BYTES {
                                true => V::dot_of_bytes(*sum, four, digits.add(at)),
                                false => V::dot(*sum, four, digits.add(at)),
                            };
                        }
                    }
                }
                words = words.add(UNIT / 4 * LANES);
                digits = digits.add(R * UNIT_WORDS);
            }
            let scale = V::load(codes.scales.add(group * LANES));
            let bias = V::load(codes.biases.add(group * LANES));
            for (row, total) in totals.iter_mut().enumerate() {
                let mut chains = sums[0][row];
                for more in &sums[1..] {
                    for (sum, more) in chains.iter_mut().zip(more[row]) {
                        *sum = V::add_sums(*sum, more);
                    }
                }
                *total = with_group(*total, chains, x, group * R + row, [scale, bias]);
            }
        }
        for (row, total) in totals.iter().enumerate() {
            total.store(to.from.add(row * to.stride));
        }
    }
}

/// `total` and what a group adds to it: `sums` are those of its products, the step and the sum of its numbers are `at` a
/// place, and `scale` and `bias` make its codes values.
///
/// # Safety
/// As [`Lanes`] says; the place is there.
#[inline(always)]
pub(super) unsafe fn with_group<V: Lanes<LANES>, const LANES: usize>(
    total: V,
    sums: [V::Sums; DIGITS],
    x: Numbers,
    at: usize,
    [scale, bias]: [V; 2],
) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let number = V::number(sums).mul(V::splat(x.steps.add(at)));
        total.mul_add(number, scale).mul_add(V::splat(x.sums.add(at)), bias)
    }
}
