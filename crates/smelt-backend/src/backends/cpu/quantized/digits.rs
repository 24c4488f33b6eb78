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
/// The largest number of a group in steps: nearly the largest that three digits write.
const STEPS: f32 = (127 << 16) as f32;

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
    /// Writes `x` in digits, for codes of which a word has `fields` in each of its bytes.
    pub fn write(&mut self, x: View<'_>, group_size: usize, fields: usize) {
        let (rows, inner) = (x.rows, x.columns);
        let groups = inner / group_size;
        (self.rows, self.inner, self.group_size) = (rows, inner, group_size);
        self.words.resize(rows * inner / UNIT * UNIT_WORDS, 0);
        self.steps.resize(rows * groups, 0.0);
        self.sums.resize(rows * groups, 0.0);
        let words = self.words.chunks_mut(TILE_ROWS * inner / UNIT * UNIT_WORDS);
        let scales = self.steps.chunks_mut(TILE_ROWS * groups).zip(self.sums.chunks_mut(TILE_ROWS * groups));
        team::for_each(words.zip(scales).enumerate(), |(tile, (words, (steps, sums)))| {
            let first = tile * TILE_ROWS;
            let tile_rows = TILE_ROWS.min(rows - first);
            for row in 0..tile_rows {
                write_row(x.row(first + row), group_size, fields, [row, tile_rows], words, steps, sums);
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
            words: &self.words[part(self.inner / UNIT * UNIT_WORDS)],
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
        fields: usize,
        place: [usize; 2],
        words: &mut [u32],
        steps: &mut [f32],
        sums: &mut [f32],
    ) {
        match fields {
            1 => write_row_of::<1>(x, group_size, place, words, steps, sums),
            2 => write_row_of::<2>(x, group_size, place, words, steps, sums),
            _ => write_row_of::<4>(x, group_size, place, words, steps, sums),
        }
    }
}

/// Row `row` of `rows`.
#[inline(always)]
fn write_row_of<const FIELDS: usize>(
    x: &[f32],
    group_size: usize,
    [row, rows]: [usize; 2],
    words: &mut [u32],
    steps: &mut [f32],
    sums: &mut [f32],
) {
    for (group, x) in x.chunks_exact(group_size).enumerate() {
        let units = x.as_chunks::<UNIT>().0;
        let (step, per_step) = step(units);
        let mut sum = 0;
        for (unit, x) in units.iter().enumerate() {
            let at = ((group * group_size / UNIT + unit) * rows + row) * UNIT_WORDS;
            let words = &mut words[at..at + UNIT_WORDS];
            for (half, x) in x.as_chunks::<16>().0.iter().enumerate() {
                let x: [f32; 16] = std::array::from_fn(|at| x[source::<FIELDS>(at)]);
                let x = x.map(|x| rounded(x * per_step));
                sum += x.iter().sum::<i32>();
                let x = x.map(in_digits);
                for digit in 0..DIGITS {
                    let bytes = x.map(|x| (x >> (8 * digit)) as u8);
                    for (word, bytes) in bytes.as_chunks::<4>().0.iter().enumerate() {
                        words[digit * UNIT / 4 + half * 4 + word] = u32::from_le_bytes(*bytes);
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

/// Which number comes `at` its place, so that four digits meet the four codes that stand in one field of the bytes of
/// a word: with two fields, every other.
const fn source<const FIELDS: usize>(at: usize) -> usize {
    let (word, within) = (at / (4 * FIELDS), at % (4 * FIELDS));
    word * 4 * FIELDS + within / 4 + within % 4 * FIELDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::cpu::matrix::View;

    fn value(tile: Tile<'_>, row: usize, group_size: usize, at: usize, place: usize) -> f64 {
        let words = &tile.words[(at / UNIT * tile.rows + row) * UNIT_WORDS..];
        let digit = |digit: usize| {
            let byte = place % UNIT;
            f64::from(words[digit * UNIT / 4 + byte / 4].to_le_bytes()[byte % 4] as i8)
        };
        let steps = digit(0) + 256.0 * digit(1) + 65536.0 * digit(2);
        steps * f64::from(tile.steps[at / group_size * tile.rows + row])
    }

    /// Of the largest number of a group: half a step each for rounding the step, its inverse, the product with that,
    /// and the result to an integer. A step is `1 / STEPS` of the largest number.
    const LARGEST_ERROR: f64 = 4.0 * 0.5 / STEPS as f64;

    #[test]
    fn digits_are_those_of_the_numbers_in_their_order() {
        let (rows, inner, group_size) = (11, 128, 64);
        let mut x: Vec<f32> = (0..rows * inner).map(|at| (at as f32 * 0.37).sin() * 5.0).collect();
        x[64..128].fill(0.0);
        x[130] = -300.0;
        for (fields, source) in
            [(1, source::<1> as fn(usize) -> usize), (2, source::<2> as fn(usize) -> usize), (4, source::<4>)]
        {
            let mut digits = Digits::default();
            digits.write(View::dense(&x, rows, inner), group_size, fields);
            for row in 0..rows {
                let tile = digits.tile(row / TILE_ROWS);
                for group in 0..inner / group_size {
                    let places = group * group_size..(group + 1) * group_size;
                    let numbers = &x[row * inner..][places.clone()];
                    let largest = numbers.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                    let mut sum = 0.0;
                    for place in places {
                        let at = place / 16 * 16 + source(place % 16);
                        let found = value(tile, row % TILE_ROWS, group_size, at, place);
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
            digits.write(View::dense(&x, 1, 128), 64, 2);
            let tile = digits.tile(0);
            assert!(tile.steps[0].is_finite() && tile.sums[0].is_finite());
            assert!(tile.steps[1].is_nan() && tile.sums[1].is_nan());
        }
    }
}
