//! Numbers written in integers: three digits to base 256 each, from -128 to 127, and a step for each group of a row.

use std::ops::Range;

use crate::backends::cpu::matrix::{Room, View};
use crate::backends::cpu::simd::vectorized;
use crate::backends::cpu::team;
use crate::kernels::QuantizationFormat;

/// Digits of a number.
pub(super) const DIGITS: usize = 3;
/// Rows of the largest tile of a product.
pub(super) const MAX_TILE_ROWS: usize = 16;
/// Numbers whose digits lie together, and of which every group has a multiple.
pub(super) const UNIT: usize = 32;
/// Words that the digits of a unit take.
pub(super) const UNIT_WORDS: usize = DIGITS * UNIT / 4;
/// Words of the widest register.
pub(super) const REGISTER_WORDS: usize = 16;
/// Numbers of the largest group.
const MAX_GROUP: usize = QuantizationFormat::GROUP_SIZES[2];
/// The largest number of a group in steps: nearly the largest that three digits write.
const STEPS: f32 = (127 << 16) as f32;

/// How digits lie: as the codes that they are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Codes in each byte of a word. A unit has those of the lowest field of all its bytes first.
    pub fields: usize,
    pub layout: Layout,
}

/// Which digits lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[unit][row][digit]`: those of 32 numbers.
    Units,
    /// `[register of codes][row][field][digit]`: those of one field of all the codes that a register of
    /// [`REGISTER_WORDS`] holds.
    Registers,
    /// `[two units][digit][row]`: those of 64 numbers, a line of a square of [`REGISTER_WORDS`] rows, of which the last
    /// tile may not use all.
    Squares,
}

impl Order {
    /// Units that share registers.
    fn units(self) -> usize {
        match self.layout {
            Layout::Units => 1,
            Layout::Registers => 2 * self.fields,
            Layout::Squares => 2,
        }
    }

    /// Rows of a tile.
    fn tile_rows(self) -> usize {
        match self.layout {
            Layout::Units | Layout::Registers => 8,
            Layout::Squares => MAX_TILE_ROWS,
        }
    }

    /// Where the digits of a unit begin in a tile with `rows` rows.
    #[inline(always)]
    fn start(self, unit: usize, row: usize, rows: usize) -> usize {
        let (units, at) = (self.units(), unit % self.units());
        match self.layout {
            Layout::Units => (unit * rows + row) * UNIT_WORDS,
            Layout::Registers => {
                (unit / units * rows + row) * units * UNIT_WORDS + at * UNIT / 4 / self.fields
            }
            Layout::Squares => (unit / units * DIGITS * MAX_TILE_ROWS + row) * REGISTER_WORDS + at * UNIT / 4,
        }
    }

    /// Words from a digit to the next, and from a field to the next.
    #[inline(always)]
    fn strides(self) -> [usize; 2] {
        match self.layout {
            Layout::Units => [UNIT / 4, UNIT / 4 / self.fields],
            Layout::Registers => [REGISTER_WORDS, DIGITS * REGISTER_WORDS],
            Layout::Squares => [MAX_TILE_ROWS * REGISTER_WORDS, UNIT / 4 / self.fields],
        }
    }
}

/// Some rows of `x`, in tiles.
#[derive(Default)]
pub(super) struct Digits {
    /// The digits of each tile, a byte each.
    words: Room,
    /// `[group][row]` of each tile.
    steps: Vec<f32>,
    /// Sums of the numbers of each group, as they are in digits; `[group][row]` of each tile.
    sums: Vec<f32>,
    rows: usize,
    inner: usize,
    group_size: usize,
    /// Words of a row.
    row_words: usize,
    /// Rows of all tiles but the last.
    tile_rows: usize,
}

/// A tile of [`Digits`].
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub words: &'a [u32],
    pub steps: &'a [f32],
    pub sums: &'a [f32],
    pub rows: usize,
}

impl Digits {
    /// Writes `x` in digits.
    pub fn write(&mut self, x: View<'_>, group_size: usize, order: Order) {
        let (rows, inner) = (x.rows, x.columns);
        let groups = inner / group_size;
        (self.rows, self.inner, self.group_size) = (rows, inner, group_size);
        self.row_words = (inner / UNIT).next_multiple_of(order.units()) * UNIT_WORDS;
        let tile = order.tile_rows();
        self.tile_rows = tile;
        self.steps.resize(rows * groups, 0.0);
        self.sums.resize(rows * groups, 0.0);
        // What fills the last register is multiplied with zeros; what fills the last square is not looked at.
        let words = self.words.of(rows.next_multiple_of(tile) * self.row_words);
        let words = bytemuck::cast_slice_mut(words).chunks_mut(tile * self.row_words);
        let scales = self.steps.chunks_mut(tile * groups).zip(self.sums.chunks_mut(tile * groups));
        team::for_each(words.zip(scales).enumerate(), |(index, (words, (steps, sums)))| {
            let first = index * tile;
            let tile_rows = tile.min(rows - first);
            for row in 0..tile_rows {
                write_row(x.row(first + row), group_size, order, [row, tile_rows], words, steps, sums);
            }
        });
    }

    /// How many tiles there are.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(self.tile_rows)
    }

    /// The tiles of some rows, from the first of a tile on, as far as there are.
    pub fn tiles_of(&self, rows: Range<usize>) -> Range<usize> {
        rows.start / self.tile_rows..rows.end.min(self.rows).div_ceil(self.tile_rows)
    }

    /// The first row of tile `index`.
    pub fn first_row(&self, index: usize) -> usize {
        index * self.tile_rows
    }

    /// Tile `index`.
    pub fn tile(&self, index: usize) -> Tile<'_> {
        let first = self.first_row(index);
        let rows = self.tile_rows.min(self.rows - first);
        let part = |row: usize| first * row..(first + rows) * row;
        let groups = part(self.inner / self.group_size);
        Tile {
            words: &bytemuck::cast_slice(self.words.numbers())[first * self.row_words..],
            steps: &self.steps[groups.clone()],
            sums: &self.sums[groups],
            rows,
        }
    }
}

vectorized! {
    fn write_row(
        x: &[f32],
        group_size: usize,
        order: Order,
        place: [usize; 2],
        words: &mut [u32],
        steps: &mut [f32],
        sums: &mut [f32],
    ) {
        match order.fields {
            1 => write_row_of::<1>(x, group_size, order, place, words, steps, sums),
            2 => write_row_of::<2>(x, group_size, order, place, words, steps, sums),
            _ => write_row_of::<4>(x, group_size, order, place, words, steps, sums),
        }
    }
}

/// Row `row` of `rows`.
#[inline(always)]
fn write_row_of<const FIELDS: usize>(
    x: &[f32],
    group_size: usize,
    order: Order,
    [row, rows]: [usize; 2],
    words: &mut [u32],
    steps: &mut [f32],
    sums: &mut [f32],
) {
    let field_words = UNIT / 4 / FIELDS;
    let [digit_stride, field_stride] = order.strides();
    // Digits of a group, field after field. Compilers make vectors of loops that are as simple as these, and of slices.
    let mut all = [0u32; MAX_GROUP];
    let in_field = group_size / FIELDS;
    for (group, x) in x.chunks_exact(group_size).enumerate() {
        let (step, per_step) = step(x);
        let mut sum = 0;
        for (field, digits) in all.chunks_exact_mut(in_field).enumerate().take(FIELDS) {
            for (digits, x) in digits.iter_mut().zip(x.as_chunks::<FIELDS>().0) {
                let x = rounded(x[field] * per_step);
                sum += x;
                *digits = in_digits(x);
            }
            for (unit, digits) in digits.chunks_exact(UNIT / FIELDS).enumerate() {
                let start = order.start(group * group_size / UNIT + unit, row, rows) + field * field_stride;
                for digit in 0..DIGITS {
                    let words = &mut words[start + digit * digit_stride..][..field_words];
                    let bytes: &mut [u8] = bytemuck::cast_slice_mut(words);
                    for (byte, digits) in bytes.iter_mut().zip(digits) {
                        *byte = (digits >> (8 * digit)) as u8;
                    }
                }
            }
        }
        steps[group * rows + row] = step;
        sums[group * rows + row] = sum as f32 * step;
    }
}

/// The step of a group, and its inverse; 0 for a group of zeros, and NaN for one with a number that is not finite.
#[inline(always)]
fn step(x: &[f32]) -> (f32, f32) {
    /// Below it, numbers are 0: the inverse of the step would be infinite.
    const SMALLEST: f32 = 1e-30;
    let largest = x.iter().fold(0, |largest, x| (x.to_bits() & 0x7fff_ffff).max(largest));
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if largest < SMALLEST {
        (0.0, 0.0)
    } else {
        (largest / STEPS, STEPS / largest)
    }
}

/// `x`, of up to 23 bits, as an integer: rounded to the nearest, without an instruction that not every machine has.
#[inline(always)]
fn rounded(x: f32) -> i32 {
    /// Adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = (1 << 23) as f32;
    let magnitude = (x.abs() + ROUND).to_bits() & 0x7f_ffff;
    let negative = x.to_bits().cast_signed() >> 31;
    (magnitude.cast_signed() ^ negative) - negative
}

/// An integer in digits, the lowest in the lowest byte.
#[inline(always)]
fn in_digits(x: i32) -> u32 {
    /// What makes every digit count from 0, and its first bit the sign if it is turned.
    const LOWEST: u32 = 0x80_80_80;
    x.cast_unsigned().wrapping_add(LOWEST) ^ LOWEST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::cpu::matrix::View;

    /// Which number of a unit comes `at` its place: those of the first field of all bytes, then those of the next.
    fn source(fields: usize, at: usize) -> usize {
        at % (UNIT / fields) * fields + at / (UNIT / fields)
    }

    /// The number whose digits are at `place` of a row.
    fn value(tile: Tile<'_>, order: Order, row: usize, group_size: usize, place: usize) -> f64 {
        let (unit, within) = (place / UNIT, place % UNIT);
        let digit = |digit: usize| {
            let byte = match order.layout {
                Layout::Units => (unit * tile.rows + row) * UNIT_WORDS * 4 + digit * UNIT + within,
                Layout::Registers => {
                    let (units, field_bytes) = (2 * order.fields, UNIT / order.fields);
                    let (field, within) = (within / field_bytes, within % field_bytes);
                    let register = (unit / units * tile.rows + row) * order.fields + field;
                    (register * DIGITS + digit) * REGISTER_WORDS * 4 + unit % units * field_bytes + within
                }
                Layout::Squares => ((unit / 2 * DIGITS + digit) * 16 + row) * 64 + unit % 2 * UNIT + within,
            };
            f64::from(tile.words[byte / 4].to_le_bytes()[byte % 4] as i8)
        };
        let steps = digit(0) + 256.0 * digit(1) + 65536.0 * digit(2);
        steps * f64::from(tile.steps[place / group_size * tile.rows + row])
    }

    /// Of the largest number of a group: half a step each for rounding the step, its inverse, the product with that,
    /// and the result to an integer. A step is `1 / STEPS` of the largest number.
    const LARGEST_ERROR: f64 = 4.0 * 0.5 / STEPS as f64;

    #[test]
    fn digits_are_those_of_the_numbers_in_their_order() {
        let (rows, inner, group_size) = (19, 192, 64);
        let mut x: Vec<f32> = (0..rows * inner).map(|at| (at as f32 * 0.37).sin() * 5.0).collect();
        x[64..128].fill(0.0);
        x[130] = -300.0;
        let layouts = [(Layout::Units, 8), (Layout::Registers, 8), (Layout::Squares, 16)];
        let orders = [1, 2, 4].into_iter().flat_map(|fields| layouts.map(|layout| (fields, layout)));
        for (fields, (layout, tile_rows)) in orders {
            let order = Order { fields, layout };
            let mut digits = Digits::default();
            digits.write(View::dense(&x, rows, inner), group_size, order);
            for row in 0..rows {
                let tile = digits.tile(row / tile_rows);
                for group in 0..inner / group_size {
                    let places = group * group_size..(group + 1) * group_size;
                    let numbers = &x[row * inner..][places.clone()];
                    let largest = numbers.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                    let mut sum = 0.0;
                    for place in places {
                        let at = place / UNIT * UNIT + source(fields, place % UNIT);
                        let found = value(tile, order, row % tile_rows, group_size, place);
                        let error = (found - f64::from(x[row * inner + at])).abs();
                        assert!(error <= f64::from(largest) * LARGEST_ERROR, "{row}, {at}: {found}");
                        sum += found;
                    }
                    let found = f64::from(tile.sums[group * tile.rows + row % tile_rows]);
                    assert!((found - sum).abs() <= 1e-6 * f64::from(largest), "sum {found}, not {sum}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_makes_its_group_so() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 128];
            x[70] = bad;
            let mut digits = Digits::default();
            digits.write(View::dense(&x, 1, 128), 64, Order { fields: 2, layout: Layout::Units });
            let tile = digits.tile(0);
            assert!(tile.steps[0].is_finite() && tile.sums[0].is_finite());
            assert!(tile.steps[1].is_nan() && tile.sums[1].is_nan());
        }
    }
}
