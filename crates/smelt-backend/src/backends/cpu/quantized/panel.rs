//! A product divided into panels of outputs, and among threads.
//!
//! A panel has as many outputs as a register has lanes. Where rows are few, its codes are multiplied as soon as they
//! are unpacked; otherwise they are unpacked once for all rows. One row is multiplied with codes where they lie, and
//! many rows in squares, if the machine can (`in_place`, `squares`).

#![allow(unsafe_code, reason = "pieces of one matrix are written by several threads")]

use std::cell::RefCell;
use std::ops::Range;

use burn::tensor::DType;

use super::digits::{Digits, Layout, MAX_TILE_ROWS, Order, Tile, UNIT};
use super::kernel::{Codes, InPlace, Numbers, PANELS_OF_SQUARES, Panel, SPAN_NUMBERS, Totals};
use super::leaves::{self, MAX_LANES};
use super::scales::Scale;
use super::turned::{OUTPUTS, Turned};
use super::unpack::Rows;
use crate::backends::cpu::matrix::{Room, View};
use crate::backends::cpu::team;
use crate::kernels::QuantizationFormat;
use crate::kernels::quantized::{Prepared, unpack};

/// Rows that stay in the second cache, in digits.
const ROWS: usize = 256;
/// Panels of a piece, where rows are many.
const PANELS: usize = 4;
/// A thread is not asked for less than this many bytes of a weight that is read once.
const READ_BYTES: usize = 16 << 10;

/// A packed weight `[outer, inner]`.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a, T> {
    words: &'a [u32],
    scales: &'a [T],
    biases: &'a [T],
    outer: usize,
    inner: usize,
    format: QuantizationFormat,
}

impl<'a, T: Scale> Packed<'a, T> {
    /// # Panics
    /// If the parts do not fit the shape.
    pub fn new(
        words: &'a [u32],
        scales: &'a [T],
        biases: &'a [T],
        [outer, inner]: [usize; 2],
        format: QuantizationFormat,
    ) -> Self {
        let packed = Self { words, scales, biases, outer, inner, format };
        let [row_words, groups] = [packed.row_words(), packed.groups()];
        assert_eq!(words.len(), outer * row_words, "words of a [{outer}, {inner}] weight");
        assert_eq!(
            [scales.len(), biases.len()],
            [outer * groups; 2],
            "scales of a [{outer}, {inner}] weight"
        );
        packed
    }

    pub fn inner(&self) -> usize {
        self.inner
    }

    pub fn outer(&self) -> usize {
        self.outer
    }

    pub fn format(&self) -> QuantizationFormat {
        self.format
    }

    /// Packed codes, scales and biases of `count` rows from `first` on.
    pub fn rows(&self, first: usize, count: usize) -> (&'a [u8], &'a [T], &'a [T]) {
        let part = |length: usize| first * length..(first + count) * length;
        let groups = part(self.groups());
        let words = &self.words[part(self.row_words())];
        (bytemuck::cast_slice(words), &self.scales[groups.clone()], &self.biases[groups])
    }

    pub fn groups(&self) -> usize {
        self.inner / self.format.group_size()
    }

    fn row_words(&self) -> usize {
        self.groups() * self.format.group_bytes() / size_of::<u32>()
    }

    /// Codes that each byte has, once those that run on from byte to byte have one of their own.
    fn fields(&self) -> usize {
        match self.format.bits() {
            2 => 4,
            4 => 2,
            _ => 1,
        }
    }
}

thread_local! {
    static DIGITS: RefCell<Digits> = RefCell::default();
    static SCRATCH: RefCell<[Scratch; PANELS_OF_SQUARES]> = RefCell::default();
}

/// What a thread works on for a panel, kept for the next product.
#[derive(Default)]
struct Scratch {
    /// `[four codes][lane]`
    codes: Room,
    /// `[group][lane]`
    scales: Room,
    /// `[group][lane]`
    biases: Room,
    /// Scales or biases as they lie, in f32.
    wide: Room,
    /// `[lane][code]`, where codes run on from byte to byte.
    bytes: Vec<u32>,
}

/// Where results go: `[row][output]`.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub to: *mut f32,
    pub row_stride: usize,
}

impl Output {
    /// From a row and an output on.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    pub unsafe fn at(self, row: usize, output: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { to: unsafe { self.to.add(row * self.row_stride + output) }, ..self }
    }
}

// SAFETY: each thread reads and writes outputs that no other does.
unsafe impl Sync for Output {}

/// What `x weight^T` is added to, row-major.
pub(super) struct Target<'a, T> {
    pub y: &'a mut [f32],
    pub weight: Packed<'a, T>,
    /// Its scales and biases lie in a file.
    pub in_file: bool,
    /// Of the weight.
    pub prepared: &'a Prepared,
}

/// A target divided into pieces, which threads take.
struct Pieces<'a, T> {
    weight: Packed<'a, T>,
    way: Way<'a, T>,
    output: Output,
    /// Outputs of a piece.
    size: usize,
    /// Pieces that lie side by side, and all.
    across: usize,
    count: usize,
}

/// How codes are multiplied.
#[derive(Clone, Copy)]
enum Way<'a, T> {
    /// Lanes are outputs: see [`super::kernel`].
    Lanes,
    /// Where they lie: see [`super::in_place`].
    Place(&'a Turned<T>),
    /// See [`super::squares`].
    Squares,
}

/// How digits lie for the way that is the fastest for so many rows.
fn layout(rows: usize, format: QuantizationFormat) -> Layout {
    /// Rows from which on squares, most of which may be empty, take less time.
    const FEWEST_IN_SQUARES: usize = 5;
    if rows == 1 && matches!(format.bits(), 4 | 8) && leaves::multiplies_in_place() {
        Layout::Registers
    } else if rows >= FEWEST_IN_SQUARES && leaves::multiplies_in_squares(format.group_size()) {
        Layout::Squares
    } else {
        Layout::Units
    }
}

/// Adds the products of `x` with weights of one format to their targets.
///
/// # Panics
/// If the shapes do not fit each other, or formats differ.
pub(super) fn add_products<T: Scale>(x: View<'_>, targets: Vec<Target<'_, T>>) {
    let Some(first) = targets.first().map(|target| target.weight) else { return };
    let (format, lanes) = (first.format, leaves::lanes());
    let layout = layout(x.rows, format);
    DIGITS.with_borrow_mut(|digits| {
        digits.write(x, format.group_size(), Order { fields: first.fields(), layout });
        let digits = &*digits;
        let reads_once = digits.tiles() <= 1;
        let pieces = targets.into_iter().map(|Target { y, weight, in_file, prepared }| {
            let outer = weight.outer;
            assert_eq!((weight.inner, weight.format), (x.columns, format), "features of x, and the format");
            assert_eq!(y.len(), x.rows * outer, "{} rows of {outer} outputs", x.rows);
            let size = match reads_once {
                true => READ_BYTES.div_ceil(weight.row_words() * size_of::<u32>()).next_multiple_of(lanes),
                false => PANELS * lanes,
            };
            let across = outer.div_ceil(size);
            Pieces {
                weight,
                way: match layout {
                    Layout::Units => Way::Lanes,
                    Layout::Registers => Way::Place(prepared.get_or_make(|| Turned::of(weight, in_file))),
                    Layout::Squares => Way::Squares,
                },
                output: Output { to: y.as_mut_ptr(), row_stride: outer },
                size,
                across,
                count: across * x.rows.div_ceil(ROWS),
            }
        });
        let pieces: Vec<_> = pieces.collect();
        let add = |numbers: Range<usize>| {
            let mut before = 0;
            for pieces in &pieces {
                let own = [numbers.start, numbers.end].map(|number| number.saturating_sub(before));
                let [start, end] = own.map(|number| number.min(pieces.count));
                before += pieces.count;
                // SAFETY: `Packed::new` and the assertions above hold all that is read or written within its buffer;
                // pieces of the outputs do not overlap.
                unsafe { pieces.add(start..end, digits) };
            }
        };
        let count = pieces.iter().map(|pieces| pieces.count).sum();
        match reads_once {
            true => team::each_range(count, &add),
            false => team::each(count, &|number| add(number..number + 1)),
        }
    });
}

impl<T: Scale> Pieces<'_, T> {
    /// Adds the pieces `numbers`: those side by side at once.
    ///
    /// # Safety
    /// The outputs are in the buffer, and nobody else has them.
    unsafe fn add(&self, mut numbers: Range<usize>, digits: &Digits) {
        while !numbers.is_empty() {
            let (rows, first) = (numbers.start / self.across, numbers.start % self.across);
            let count = numbers.len().min(self.across - first);
            numbers.start += count;
            let outputs = first * self.size..self.weight.outer.min((first + count) * self.size);
            let tiles = digits.tiles_of(rows * ROWS..(rows + 1) * ROWS);
            let piece = Piece { weight: self.weight, digits, tiles, outputs, output: self.output };
            // SAFETY: the caller's promise.
            SCRATCH.with_borrow_mut(|scratch| unsafe {
                match self.way {
                    Way::Lanes => piece.add_in_lanes(&mut scratch[0]),
                    Way::Place(turned) => piece.add_in_place(turned),
                    Way::Squares => piece.add_in_squares(scratch),
                }
            });
        }
    }
}

/// Some rows of some outputs.
struct Piece<'a, T> {
    weight: Packed<'a, T>,
    digits: &'a Digits,
    tiles: Range<usize>,
    outputs: Range<usize>,
    output: Output,
}

impl<T: Scale> Piece<'_, T> {
    /// # Safety
    /// The outputs are in the buffer, and nobody else has them.
    unsafe fn add_in_lanes(self, scratch: &mut Scratch) {
        let Self { weight, digits, tiles, outputs, output } = self;
        let lanes = leaves::lanes();
        for first in outputs.clone().step_by(lanes) {
            let count = lanes.min(outputs.end - first);
            // SAFETY: the caller's promise.
            unsafe {
                if digits.tiles() == 1 {
                    let panel = panel(weight, first, count, &mut scratch.bytes);
                    let codes = codes(weight, first, count, scratch);
                    let (x, room) = (numbers(digits.tile(0)), scratch.codes.of(SPAN_NUMBERS).as_mut_ptr());
                    with_totals(output.at(0, first), [x.rows, count], lanes, |to| {
                        leaves::add_panel(panel, codes, x, to, room);
                    });
                    continue;
                }
                let codes = unpacked(weight, first, count, scratch);
                for tile in tiles.clone() {
                    let (x, place) = (numbers(digits.tile(tile)), output.at(digits.first_row(tile), first));
                    with_totals(place, [x.rows, count], lanes, |to| leaves::add_groups(codes, x, to));
                }
            }
        }
    }

    /// # Safety
    /// As [`Piece::add_in_lanes`]; [`leaves::multiplies_in_squares`].
    unsafe fn add_in_squares(self, scratch: &mut [Scratch; PANELS_OF_SQUARES]) {
        let Self { weight, digits, tiles, outputs, output } = self;
        let lanes = leaves::lanes();
        // SAFETY: the caller's promise.
        unsafe {
            leaves::in_squares(|| {
                for first in outputs.clone().step_by(PANELS_OF_SQUARES * lanes) {
                    let end = outputs.end.min(first + PANELS_OF_SQUARES * lanes);
                    let panels = (first..end).step_by(lanes).zip(&mut *scratch);
                    let panels = panels
                        .map(|(first, scratch)| unpacked(weight, first, lanes.min(end - first), scratch));
                    let panels: Vec<_> = panels.collect();
                    for tile in tiles.clone() {
                        let (x, place) =
                            (numbers(digits.tile(tile)), output.at(digits.first_row(tile), first));
                        with_totals(place, [x.rows, end - first], panels.len() * lanes, |to| {
                            leaves::add_in_squares(&panels, x, to);
                        });
                    }
                }
            });
        }
    }

    /// Of one row.
    ///
    /// # Safety
    /// As [`Piece::add_in_lanes`]; [`leaves::multiplies_in_place`].
    unsafe fn add_in_place(self, turned: &Turned<T>) {
        let Self { weight, digits, outputs, output, .. } = self;
        let x = numbers(digits.tile(0));
        let stride = weight.row_words();
        for first in outputs.clone().step_by(OUTPUTS) {
            let count = OUTPUTS.min(outputs.end - first);
            let codes = InPlace {
                codes: Rows { from: weight.words[first * stride..].as_ptr(), stride, count },
                fields: weight.fields(),
                scales: turned.panel(first).as_ptr(),
                groups: weight.groups(),
                units: weight.format.group_size() / UNIT,
            };
            // SAFETY: the caller's promise.
            unsafe {
                let place = output.at(0, first);
                with_totals(place, [x.rows, count], OUTPUTS, |to| leaves::add_in_place(codes, x, to));
            }
        }
    }
}

/// The packed codes of `count` outputs from `first` on; those that run on from byte to byte get one of their own.
fn panel<T: Scale>(weight: Packed<'_, T>, first: usize, count: usize, bytes: &mut Vec<u32>) -> Panel {
    let stride = weight.row_words();
    let from = weight.words[first * stride..].as_ptr();
    if weight.fields() > 1 || weight.format.bits() == 8 {
        let rows = Rows { from, stride, count };
        // The rows behind these, as they lie.
        let ahead = from.wrapping_add(leaves::lanes() * stride);
        return Panel { rows, words: stride, fields: weight.fields(), ahead };
    }
    let words = weight.inner / 4;
    bytes.resize(count * words, 0);
    let rows: &mut [u8] = bytemuck::cast_slice_mut(bytes);
    for (row, codes) in rows.chunks_exact_mut(weight.inner).enumerate() {
        unpack(weight.rows(first + row, 1).0, weight.format, codes);
    }
    let rows = Rows { from: bytes.as_ptr(), stride: words, count };
    Panel { rows, words, fields: 1, ahead: rows.from }
}

/// The codes of `count` outputs from `first` on, unpacked, and what they stand for.
///
/// # Safety
/// The outputs are there.
unsafe fn unpacked<T: Scale>(
    weight: Packed<'_, T>,
    first: usize,
    count: usize,
    scratch: &mut Scratch,
) -> Codes {
    let panel = panel(weight, first, count, &mut scratch.bytes);
    // SAFETY: the caller's promise.
    unsafe {
        let codes = codes(weight, first, count, scratch);
        let room = scratch.codes.of(weight.inner / 4 * leaves::lanes()).as_mut_ptr();
        leaves::unpack(panel.rows, panel.words, panel.fields, room, panel.ahead);
        Codes { words: room, ..codes }
    }
}

/// What is known of the codes of `count` outputs from `first` on, but for the codes; scales and biases are turned.
///
/// # Safety
/// The outputs are there.
unsafe fn codes<T: Scale>(weight: Packed<'_, T>, first: usize, count: usize, scratch: &mut Scratch) -> Codes {
    let groups = weight.groups();
    let Scratch { scales, biases, wide, .. } = scratch;
    let mut turned = |from: &[T], to: &mut Room| {
        let from = &from[first * groups..][..count * groups];
        let to = to.of(groups * leaves::lanes()).as_mut_ptr();
        // SAFETY: the numbers are there, and there is room for whole registers of them.
        unsafe {
            let from = match T::dtype() {
                DType::F32 => from.as_ptr().cast(),
                _ => {
                    let wide = wide.of(from.len().next_multiple_of(MAX_LANES)).as_mut_ptr();
                    leaves::widen(from.as_ptr(), from.len(), wide);
                    wide.cast_const()
                }
            };
            leaves::turn(Rows { from, stride: groups, count }, groups, to);
        }
        to.cast_const()
    };
    Codes {
        words: std::ptr::null(),
        scales: turned(weight.scales, scales),
        biases: turned(weight.biases, biases),
        groups,
        units: weight.format.group_size() / UNIT,
        bytes: weight.format.bits() == 8,
    }
}

fn numbers(tile: Tile<'_>) -> Numbers {
    let Tile { words, steps, sums, rows } = tile;
    Numbers { words: words.as_ptr(), steps: steps.as_ptr(), sums: sums.as_ptr(), rows }
}

/// Calls `add` with the sums at `place`: where they are, or, if there are fewer outputs than lanes, in a copy.
///
/// # Safety
/// `rows` rows of `count` outputs are at `place`.
unsafe fn with_totals(place: Output, [rows, count]: [usize; 2], lanes: usize, add: impl FnOnce(Totals)) {
    if count == lanes {
        return add(Totals { from: place.to, stride: place.row_stride });
    }
    let mut totals = [0.0; MAX_TILE_ROWS * PANELS_OF_SQUARES * MAX_LANES];
    // SAFETY: the caller's promise.
    unsafe {
        for (row, totals) in totals.chunks_exact_mut(lanes).enumerate().take(rows) {
            totals.as_mut_ptr().copy_from_nonoverlapping(place.at(row, 0).to, count);
        }
        add(Totals { from: totals.as_mut_ptr(), stride: lanes });
        for (row, totals) in totals.chunks_exact(lanes).enumerate().take(rows) {
            place.at(row, 0).to.copy_from_nonoverlapping(totals.as_ptr(), count);
        }
    }
}
