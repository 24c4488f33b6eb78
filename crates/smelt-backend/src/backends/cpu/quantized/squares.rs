//! Many rows: sums over a group are those of squares of bytes, 16 rows times 16 outputs, by AMX.
//!
//! The sums are exact, so everything is as in [`super::kernel`], to the last bit. While squares of one group are
//! multiplied, the sums of the group before become numbers, a few rows after each square: processors do both at once
//! only where the instructions of both lie side by side.

#![allow(unsafe_code, reason = "instructions that not every machine has, on memory given by pointers")]

use std::arch::x86_64::{__m512, __m512i, _mm512_load_si512, _mm512_setzero_ps};
use std::mem::MaybeUninit;

use super::digits::{DIGITS, MAX_TILE_ROWS, REGISTER_WORDS, UNIT};
use super::kernel::{Codes, Numbers, PANELS_OF_SQUARES as PANELS, Totals, with_group};
use crate::backends::cpu::amx;
use crate::backends::cpu::matrix::Vector;

/// Numbers of a line of a square: so many are multiplied at a time.
const LINE: usize = 64;
/// Words of a square.
const SQUARE_WORDS: usize = MAX_TILE_ROWS * REGISTER_WORDS;

/// Whether groups of so many codes are whole squares.
pub(super) fn divide(group_size: usize) -> bool {
    group_size.is_multiple_of(LINE)
}

/// Calls `work` while this thread may multiply squares.
///
/// # Safety
/// The machine has AMX.
pub(super) unsafe fn set_up(work: impl FnOnce()) {
    // SAFETY: the caller's promise.
    unsafe { amx::set_up() };
    work();
    // SAFETY: as above.
    unsafe { amx::release() };
}

/// Sums of one group: a square for each digit and panel.
#[repr(C, align(64))]
struct Sums([[[i32; SQUARE_WORDS]; PANELS]; DIGITS]);

/// The digits of one group of a tile, and the codes of panels: where their squares begin, and how many there are of each
/// digit and panel.
#[derive(Clone, Copy)]
struct Squares {
    digits: *const u32,
    codes: [*const f32; PANELS],
    steps: usize,
}

/// Products of a digit with a panel, in an order in which one of both stays.
const PRODUCTS: [(usize, usize); DIGITS * PANELS] = [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)];

impl Squares {
    /// Multiplies the squares of product `P` into the tile of that number, and writes those of the product before the
    /// last.
    ///
    /// # Safety
    /// Within [`set_up`]; products before this one have been multiplied, the squares are there, and so is the room.
    #[inline(always)]
    unsafe fn multiply<const P: usize>(self, to: *mut Sums) {
        const DIGIT_TILE: usize = 6;
        const CODE_TILE: usize = 7;
        let (digit, panel) = PRODUCTS[P];
        let (digit_stays, panel_stays) = match P {
            0 => (false, false),
            _ => (PRODUCTS[P - 1].0 == digit, PRODUCTS[P - 1].1 == panel),
        };
        // SAFETY: the caller's promise.
        unsafe {
            amx::zero::<P>();
            for step in 0..self.steps {
                if !digit_stays || self.steps > 1 {
                    let from = self.digits.add((step * DIGITS + digit) * SQUARE_WORDS);
                    amx::load::<DIGIT_TILE>(from.cast());
                }
                if !panel_stays || self.steps > 1 {
                    amx::load::<CODE_TILE>(self.codes[panel].add(step * SQUARE_WORDS).cast());
                }
                amx::add_bytes::<P, DIGIT_TILE, CODE_TILE>();
            }
            match P {
                0 | 1 => {}
                2 => take::<0>(to),
                3 => take::<1>(to),
                4 => take::<2>(to),
                _ => take::<3>(to),
            }
        }
    }
}

/// Writes the sums of product `P`.
///
/// # Safety
/// Within [`set_up`]; the product has been multiplied, and there is room.
#[inline(always)]
unsafe fn take<const P: usize>(to: *mut Sums) {
    let (digit, panel) = PRODUCTS[P];
    // SAFETY: the caller's promise.
    unsafe { amx::store::<P>((&raw mut (*to).0[digit][panel]).cast()) }
}

/// Adds the products of the groups of one or two panels to `totals`, whose outputs lie side by side, one group after the
/// other.
///
/// # Safety
/// Within [`set_up`]; the machine has AVX-512. Groups [`divide`] into squares, and digits lie in them; everything holds
/// as many groups, rows and outputs as it should.
pub(super) unsafe fn add_groups(panels: &[Codes], x: Numbers, totals: Totals) {
    // SAFETY: the caller's promise.
    unsafe {
        if panels.len() == PANELS && x.rows == MAX_TILE_ROWS {
            add_groups_of::<true>(panels, x, totals);
        } else {
            add_groups_of::<false>(panels, x, totals);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_groups_of<const WHOLE: bool>(panels: &[Codes], x: Numbers, totals: Totals) {
    let (Some(first), Some(last)) = (panels.first(), panels.last()) else { return };
    let rows = if WHOLE { MAX_TILE_ROWS } else { x.rows };
    let steps = first.units * UNIT / LINE;
    // Rows of the output may share a few lines of the first cache.
    let mut own = [[_mm512_setzero_ps(); MAX_TILE_ROWS]; PANELS];
    let place = |panel: usize, row: usize| {
        // SAFETY: the caller's promise.
        unsafe { totals.from.add(row * totals.stride + panel * REGISTER_WORDS) }
    };
    for (panel, own) in own.iter_mut().enumerate().take(panels.len()) {
        for (row, total) in own.iter_mut().enumerate().take(rows) {
            // SAFETY: the caller's promise.
            *total = unsafe { __m512::load(place(panel, row)) };
        }
    }
    // Those of one group are made while those of the group before are used.
    let mut sums = [const { MaybeUninit::<Sums>::uninit() }; 2];
    let sums = sums.as_mut_ptr().cast::<Sums>();
    // SAFETY: there are two.
    let sums_of = |group: usize| unsafe { sums.add(group % 2) };
    // What part of a group's numbers adds to the totals; there are as many parts as products.
    let mut finish = |group: usize, part: usize| {
        let (panel, part) = (part / DIGITS, part % DIGITS);
        let [start, end] = [part, part + 1].map(|part| rows.min(part * MAX_TILE_ROWS / DIGITS));
        let Some(codes) = panels.get(panel) else { return };
        // SAFETY: the caller's promise.
        unsafe {
            let at = group * REGISTER_WORDS;
            let affine = [__m512::load(codes.scales.add(at)), __m512::load(codes.biases.add(at))];
            for (row, total) in own[panel].iter_mut().enumerate().take(end).skip(start) {
                let of = |digit: usize| -> __m512i {
                    let square = (&raw const (*sums_of(group)).0[digit][panel]).cast::<i32>();
                    _mm512_load_si512(square.add(row * REGISTER_WORDS).cast())
                };
                *total = with_group(*total, [of(0), of(1), of(2)], x, group * rows + row, affine);
            }
        }
    };
    for group in 0..first.groups {
        let square = group * steps;
        let to = sums_of(group);
        // SAFETY: the caller's promise.
        unsafe {
            let squares = Squares {
                digits: x.words.add(square * DIGITS * SQUARE_WORDS),
                codes: [first, last].map(|codes| codes.words.add(square * SQUARE_WORDS)),
                steps,
            };
            macro_rules! products {
                ($($product:literal)*) => {$(
                    squares.multiply::<$product>(to);
                    if group > 0 {
                        finish(group - 1, $product);
                    }
                )*};
            }
            products!(0 1 2 3 4 5);
            take::<4>(to);
            take::<5>(to);
        }
    }
    (0..PRODUCTS.len()).for_each(|part| finish(first.groups - 1, part));
    for (panel, own) in own.iter().enumerate().take(panels.len()) {
        for (row, total) in own.iter().enumerate().take(rows) {
            // SAFETY: the caller's promise.
            unsafe { total.store(place(panel, row)) };
        }
    }
}
