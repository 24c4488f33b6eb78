//! Numbers written in integers: three digits to base 256 each, from -128 to 127, and a step for each group of a row.

use crate::backends::cpu::matrix::View;
use crate::backends::cpu::simd::vectorized;
use crate::backends::cpu::team;

/// Digits of a number.
pub(super) const DIGITS: usize = 3;
/// Rows that a tile of a product has.
pub(super) const TILE_ROWS: usize = 8;
/// Numbers whose digits lie together, and of which every group has a multiple.
pub(super) const UNIT: usize = 32;
/// Words that the digits of a unit take.
pub(super) const UNIT_WORDS: usize = DIGITS * UNIT / 4;
/// Words of the widest register.
pub(super) const REGISTER_WORDS: usize = 16;
/// The largest number of a group in steps: nearly the largest that three digits write.
const STEPS: f32 = (127 << 16) as f32;

/// How digits lie: as the codes that they are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Codes in each byte of a word. A unit has those of the lowest field of all its bytes first.
    pub fields: usize,
    /// Digits are in registers of [`REGISTER_WORDS`], `[register of codes][row][field][digit]`: those of one field of all
    /// the codes that a register holds. Otherwise, they lie as [`Digits::words`] says.
    pub in_registers: bool,
}

impl Order {
    /// Units that share a register of codes.
    fn units(self) -> usize {
        if self.in_registers { 2 * self.fields } else { 1 }
    }
}

/// Some rows of `x`, in tiles of up to [`TILE_ROWS`].
#[derive(Default)]
pub(super) struct Digits {
    /// `[unit][row][digit]` of each tile: the digits of 32 numbers, a byte each.
    words: Vec<u32>,
    /// `[group][row]` of each tile.
    steps: Vec<f32>,
    /// Sums of the numbers of each group, as they are in digits; `[group][row]` of each tile.
    sums: Vec<f32>,
    rows: usize,
    inner: usize,
    group_size: usize,
    /// Words of a row.
    row_words: usize,
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
        // What fills the last register is multiplied with zeros.
        self.words.resize(rows * self.row_words, 0);
        self.steps.resize(rows * groups, 0.0);
        self.sums.resize(rows * groups, 0.0);
        let words = self.words.chunks_mut(TILE_ROWS * self.row_words);
        let scales = self.steps.chunks_mut(TILE_ROWS * groups).zip(self.sums.chunks_mut(TILE_ROWS * groups));
        team::for_each(words.zip(scales).enumerate(), |(tile, (words, (steps, sums)))| {
            let first = tile * TILE_ROWS;
            let tile_rows = TILE_ROWS.min(rows - first);
            for row in 0..tile_rows {
                write_row(x.row(first + row), group_size, order, [row, tile_rows], words, steps, sums);
            }
        });
    }

    /// How many tiles there are.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Tile `index`.
    pub fn tile(&self, index: usize) -> Tile<'_> {
        let first = index * TILE_ROWS;
        let rows = TILE_ROWS.min(self.rows - first);
        let part = |row: usize| first * row..(first + rows) * row;
        let groups = part(self.inner / self.group_size);
        Tile {
            words: &self.words[part(self.row_words)],
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
    // Words from a unit to the next of its register, from a digit to the next, and from a field to the next.
    let field_words = UNIT / 4 / FIELDS;
    let (digit_stride, field_stride) = match order.in_registers {
        true => (REGISTER_WORDS, DIGITS * REGISTER_WORDS),
        false => (UNIT / 4, field_words),
    };
    let units = order.units();
    for (group, x) in x.chunks_exact(group_size).enumerate() {
        let in_group = x.as_chunks::<UNIT>().0;
        let (step, per_step) = step(in_group);
        let mut sum = 0;
        for (unit, x) in in_group.iter().enumerate() {
            let unit = group * group_size / UNIT + unit;
            let start = (unit / units * rows + row) * units * UNIT_WORDS + unit % units * field_words;
            let x: [f32; UNIT] = std::array::from_fn(|at| x[source::<FIELDS>(at)]);
            let x = x.map(|x| rounded(x * per_step));
            sum += x.iter().sum::<i32>();
            let x = x.map(in_digits);
            for digit in 0..DIGITS {
                let bytes = x.map(|x| (x >> (8 * digit)) as u8);
                let (bytes, _) = bytes.as_chunks::<4>();
                for (field, bytes) in bytes.chunks_exact(field_words).enumerate() {
                    let at = start + digit * digit_stride + field * field_stride;
                    for (word, bytes) in words[at..at + field_words].iter_mut().zip(bytes) {
                        *word = u32::from_le_bytes(*bytes);
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
fn step(units: &[[f32; UNIT]]) -> (f32, f32) {
    /// Below it, numbers are 0: the inverse of the step would be infinite.
    const SMALLEST: f32 = 1e-30;
    let mut largest = [0u32; UNIT];
    for unit in units {
        for (largest, x) in largest.iter_mut().zip(unit) {
            *largest = (*largest).max(x.to_bits() & 0x7fff_ffff);
        }
    }
    let largest = f32::from_bits(largest.into_iter().fold(0, u32::max));
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

/// Which number of a unit comes `at` its place: those of the first field of all bytes, then those of the next.
const fn source<const FIELDS: usize>(at: usize) -> usize {
    at % (UNIT / FIELDS) * FIELDS + at / (UNIT / FIELDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::cpu::matrix::View;

    /// The number whose digits are at `place` of a row.
    fn value(tile: Tile<'_>, order: Order, row: usize, group_size: usize, place: usize) -> f64 {
        let (unit, within) = (place / UNIT, place % UNIT);
        let digit = |digit: usize| {
            let byte = match order.in_registers {
                false => (unit * tile.rows + row) * UNIT_WORDS * 4 + digit * UNIT + within,
                true => {
                    let (units, field_bytes) = (2 * order.fields, UNIT / order.fields);
                    let (field, within) = (within / field_bytes, within % field_bytes);
                    let register = (unit / units * tile.rows + row) * order.fields + field;
                    (register * DIGITS + digit) * REGISTER_WORDS * 4 + unit % units * field_bytes + within
                }
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
        let (rows, inner, group_size) = (11, 192, 64);
        let mut x: Vec<f32> = (0..rows * inner).map(|at| (at as f32 * 0.37).sin() * 5.0).collect();
        x[64..128].fill(0.0);
        x[130] = -300.0;
        let sources = [(1, source::<1> as fn(usize) -> usize), (2, source::<2>), (4, source::<4>)];
        for ((fields, source), in_registers) in sources.into_iter().flat_map(|of| [(of, false), (of, true)]) {
            let order = Order { fields, in_registers };
            let mut digits = Digits::default();
            digits.write(View::dense(&x, rows, inner), group_size, order);
            for row in 0..rows {
                let tile = digits.tile(row / TILE_ROWS);
                for group in 0..inner / group_size {
                    let places = group * group_size..(group + 1) * group_size;
                    let numbers = &x[row * inner..][places.clone()];
                    let largest = numbers.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                    let mut sum = 0.0;
                    for place in places {
                        let at = place / UNIT * UNIT + source(place % UNIT);
                        let found = value(tile, order, row % TILE_ROWS, group_size, place);
                        let error = (found - f64::from(x[row * inner + at])).abs();
                        assert!(error <= f64::from(largest) * LARGEST_ERROR, "{row}, {at}: {found}");
                        sum += found;
                    }
                    let found = f64::from(tile.sums[group * tile.rows + row % TILE_ROWS]);
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
            digits.write(View::dense(&x, 1, 128), 64, Order { fields: 2, in_registers: false });
            let tile = digits.tile(0);
            assert!(tile.steps[0].is_finite() && tile.sums[0].is_finite());
            assert!(tile.steps[1].is_nan() && tile.sums[1].is_nan());
        }
    }
}
