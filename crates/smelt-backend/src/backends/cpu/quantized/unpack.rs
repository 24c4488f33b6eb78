//! Codes of several outputs, from the rows in which they are packed to a byte each, in the order in which they are
//! multiplied.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::digits::UNIT;
use super::lanes::Lanes;

/// Rows of a matrix, `stride` apart; those from `count` on stand for the last.
#[derive(Clone, Copy)]
pub(super) struct Rows<T> {
    pub from: *const T,
    pub stride: usize,
    pub count: usize,
}

impl<T> Rows<T> {
    /// Where `LANES` rows begin.
    ///
    /// # Safety
    /// The rows are there.
    #[inline(always)]
    pub unsafe fn starts<const LANES: usize>(self) -> [*const T; LANES] {
        let mut starts = [self.from; LANES];
        for (lane, start) in starts.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *start = unsafe { self.from.add(lane.min(self.count - 1) * self.stride) };
        }
        starts
    }
}

/// Writes the codes of `words` words of `LANES` rows as `[four codes][lane]`, a byte each, where every byte of a word
/// has `fields` codes. Four codes are those of one field of a word; of 32 codes, those of the lowest field are first.
///
/// Meanwhile fetches as much from `ahead` on, which may be anywhere.
///
/// # Safety
/// As [`Lanes`] says; rows hold as many words, and `to` has room for `words * fields * LANES` numbers.
#[inline(always)]
pub(super) unsafe fn unpack<V: Lanes<LANES>, const LANES: usize>(
    rows: Rows<u32>,
    words: usize,
    fields: usize,
    to: *mut f32,
    ahead: *const u32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match fields {
            1 => unpack_of::<V, LANES, 1>(rows, words, to, ahead),
            2 => unpack_of::<V, LANES, 2>(rows, words, to, ahead),
            _ => unpack_of::<V, LANES, 4>(rows, words, to, ahead),
        }
    }
}

#[inline(always)]
unsafe fn unpack_of<V: Lanes<LANES>, const LANES: usize, const FIELDS: usize>(
    rows: Rows<u32>,
    words: usize,
    mut to: *mut f32,
    mut ahead: *const u32,
) {
    /// Words that one fetch brings.
    const LINE: usize = 16;
    // SAFETY: the promise of `unpack`.
    unsafe {
        let starts = rows.starts::<LANES>();
        for first in (0..words).step_by(LANES) {
            let count = LANES.min(words - first);
            let mut lines = [V::zero(); LANES];
            for (lane, (line, start)) in lines.iter_mut().zip(&starts).enumerate() {
                let from = start.add(first);
                *line = if count == LANES { V::load(from.cast()) } else { V::load_words(from, count) };
                // Registers that are shorter than a line fetch one for several rows.
                if (lane * LANES).is_multiple_of(LINE) {
                    V::prefetch(ahead.cast());
                    ahead = ahead.wrapping_add(LINE);
                }
            }
            for (at, column) in V::transposed(lines).iter().enumerate().take(count) {
                // Words that have 32 codes.
                let unit = UNIT / 4 / FIELDS;
                let to = to.add((at / unit * unit * FIELDS + at % unit) * LANES);
                fields_of::<V, LANES, FIELDS>(*column, to, unit * LANES);
            }
            to = to.add(count * FIELDS * LANES);
        }
    }
}

#[inline(always)]
unsafe fn fields_of<V: Lanes<LANES>, const LANES: usize, const FIELDS: usize>(
    words: V,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the promise of `unpack`.
    unsafe {
        match FIELDS {
            1 => words.store(to),
            2 => {
                words.field::<0>(15).store(to);
                words.field::<4>(15).store(to.add(stride));
            }
            _ => {
                words.field::<0>(3).store(to);
                words.field::<2>(3).store(to.add(stride));
                words.field::<4>(3).store(to.add(2 * stride));
                words.field::<6>(3).store(to.add(3 * stride));
            }
        }
    }
}

/// How many times as many rows ahead [`turn`] fetches.
const AHEAD: usize = 2;

/// Writes `groups` numbers of each of `LANES` rows as `[group][lane]`.
///
/// # Safety
/// As [`Lanes`] says; rows hold `groups` numbers, and `to` has room for `groups * LANES`.
#[inline(always)]
pub(super) unsafe fn turn<V: Lanes<LANES>, const LANES: usize>(rows: Rows<f32>, groups: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let starts = rows.starts::<LANES>();
        for first in (0..groups).step_by(LANES) {
            let count = LANES.min(groups - first);
            let mut lines = [V::zero(); LANES];
            for (line, row) in lines.iter_mut().zip(starts) {
                let row = row.add(first);
                V::prefetch(row.wrapping_add(AHEAD * LANES * rows.stride).cast());
                *line = V::load_words(row.cast(), count);
            }
            for (group, column) in V::transposed(lines).iter().enumerate().take(count) {
                column.store(to.add((first + group) * LANES));
            }
        }
    }
}
