//! The innermost loops: one tile of the result at a time, in registers.
//!
//! Every number of the result is a chain of multiply-adds along `k` in order, begun anew every
//! [`super::BLOCK_K`] and then added to what is there. Neither the shape of a tile nor the number of rows
//! changes it.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::stored::Stored;
use super::vector::Vector;
use super::{BLOCK_K, CACHED_BYTES};

/// Where a tile's numbers go, and what becomes of those there.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub to: *mut f32,
    pub row_stride: usize,
    /// Multiplies what is computed.
    pub scale: f32,
    /// What is there counts; otherwise it is replaced.
    pub add: bool,
}

impl Output {
    /// From row `row` and column `column` on.
    ///
    /// # Safety
    /// The place is in the buffer.
    #[inline(always)]
    pub unsafe fn at(self, row: usize, column: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { to: unsafe { self.to.add(row * self.row_stride + column) }, ..self }
    }

    /// As [`Output::add`] from the second part of `k` on.
    #[inline(always)]
    pub fn adding_if(self, add: bool) -> Self {
        Self { add: self.add || add, ..self }
    }

    /// Takes the first `columns` numbers of `value`.
    ///
    /// # Safety
    /// As [`Vector`] says, and that many numbers are in the buffer.
    #[inline(always)]
    unsafe fn take<V: Vector<LANES>, const LANES: usize>(self, value: V, columns: usize) {
        // SAFETY: the caller's promise; in a buffer of its own, all lanes may be written.
        unsafe {
            let value = value.mul(V::splat(&self.scale));
            if columns >= LANES {
                let sum = if self.add { V::load(self.to).add(value) } else { value };
                return sum.store(self.to);
            }
            let mut lanes = [0f32; LANES];
            value.store(lanes.as_mut_ptr());
            for (lane, value) in lanes.iter().enumerate().take(columns) {
                let to = self.to.add(lane);
                *to = if self.add { *to + value } else { *value };
            }
        }
    }
}

/// `R` rows times two registers of columns: rows of `a` are `stride` apart, and numbers of a row `step`; rows of `b` are
/// `b_stride` apart.
///
/// # Safety
/// As [`Vector`] says; `a` and `b` hold `k` numbers in each row and column, those of `b` two registers each; the first
/// `columns` columns of `R` rows are in the output.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector<LANES>, const LANES: usize, const R: usize>(
    k: usize,
    (mut a, stride, step): (*const f32, usize, usize),
    mut b: *const f32,
    b_stride: usize,
    columns: usize,
    output: Output,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::zero(); 2]; R];
        for _ in 0..k {
            let columns = [V::load(b), V::load(b.add(LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = V::splat(a.add(row * stride));
                sums[0] = sums[0].mul_add(x, columns[0]);
                sums[1] = sums[1].mul_add(x, columns[1]);
            }
            a = a.wrapping_add(step);
            b = b.wrapping_add(b_stride);
        }
        for (row, sums) in sums.iter().enumerate() {
            output.at(row, 0).take(sums[0], columns);
            if columns > LANES {
                output.at(row, LANES).take(sums[1], columns - LANES);
            }
        }
    }
}

/// Rows of a matrix that is read as it lies: each is contiguous, and they are `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<T> {
    pub from: *const T,
    pub stride: usize,
    pub count: usize,
}

/// `x w^T` for `R` rows of `x`, packed `[k][R]`, and all rows of `w`, each of which is read once.
///
/// Squares of `w` are transposed in registers, so that the order of every sum is that of [`tile`].
///
/// # Safety
/// As [`Vector`] says; rows of `x` and `w` hold `k` numbers; the output holds `R` rows of `w.count` columns.
#[inline(always)]
pub(super) unsafe fn few_rows<V: Vector<LANES>, const LANES: usize, T: Stored, const R: usize>(
    x: *const f32,
    w: Rows<T>,
    k: usize,
    output: Output,
) {
    // SAFETY: the caller's promise; rows beyond the last are read as the last one, and not written.
    unsafe {
        for first in (0..w.count).step_by(LANES) {
            let mut rows = [w.from; LANES];
            for (lane, row) in rows.iter_mut().enumerate() {
                *row = w.from.add((first + lane).min(w.count - 1) * w.stride);
            }
            for start in (0..k).step_by(BLOCK_K) {
                let length = BLOCK_K.min(k - start);
                let mut ahead = match w.count * k * size_of::<T>() <= CACHED_BYTES {
                    true => Ahead::new(std::ptr::null(), 0),
                    false => Ahead::behind::<LANES>(rows[0], w.stride, start, k),
                };
                let sums = chain::<V, LANES, T, R>(x, &rows, start, length, &mut ahead);
                let output = output.at(0, first).adding_if(start > 0);
                for (row, sum) in sums.iter().enumerate() {
                    output.at(row, 0).take(*sum, w.count - first);
                }
            }
        }
    }
}

/// `R` rows of `a`, packed `[k][R]`, times `C` registers of columns of `b`, whose rows are read as they lie; returns
/// `C`.
///
/// # Safety
/// As [`Vector`] says; `a` and `b` hold `k` rows, those of `b` `C` registers each; so do the `R` rows of the output.
#[inline(always)]
pub(super) unsafe fn columns<V: Vector<LANES>, const LANES: usize, const R: usize, const C: usize>(
    k: usize,
    a: *const f32,
    b: *const f32,
    b_stride: usize,
    output: Output,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        for start in (0..k).step_by(BLOCK_K) {
            let mut sums = [[V::zero(); C]; R];
            for at in start..k.min(start + BLOCK_K) {
                let b = b.add(at * b_stride);
                for column in 0..C {
                    let w = V::load(b.add(column * LANES));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        sums[column] = sums[column].mul_add(V::splat(a.add(at * R + row)), w);
                    }
                }
            }
            let output = output.adding_if(start > 0);
            for (row, sums) in sums.iter().enumerate() {
                for (column, sum) in sums.iter().enumerate() {
                    output.at(row, column * LANES).take(*sum, LANES);
                }
            }
        }
    }
    C
}

/// What will be read next, [`BLOCK_K`] numbers of some rows: fetched piece by piece while others are worked on.
pub(super) struct Ahead<T> {
    from: *const T,
    stride: usize,
    line: usize,
}

impl<T: Stored> Ahead<T> {
    /// Rows that begin at `from`, which may be anywhere, and are `stride` apart; nothing if `from` is null.
    #[inline(always)]
    pub fn new(from: *const T, stride: usize) -> Self {
        Self { from, stride, line: 0 }
    }

    /// What to fetch while `LANES` rows of `k` numbers from `row` on are worked on, at number `start`.
    ///
    /// Memory is fastest in long pieces, and the first cache best used with what is needed soon. A block of a row
    /// in f32 is 1 KiB, which is long enough: the next blocks of the same rows are fetched. In 16 bits it is not,
    /// and the next rows are fetched as they lie.
    #[inline(always)]
    fn behind<const LANES: usize>(row: *const T, stride: usize, start: usize, k: usize) -> Self {
        let next_rows = row.wrapping_add(LANES * stride);
        match T::PER_LANE {
            1 if start + BLOCK_K < k => Self::new(row.wrapping_add(start + BLOCK_K), stride),
            1 => Self::new(next_rows, stride),
            _ => Self::new(next_rows.wrapping_add(start * LANES), BLOCK_K),
        }
    }

    /// Fetches the next part, a `LANES`th of what a square of registers holds: a little at a time, because a machine
    /// waits for no more than so many lines at once, and what is worked on must not queue behind them.
    #[inline(always)]
    pub fn fetch_lane<V: Vector<LANES>, const LANES: usize>(&mut self, lane: usize) {
        /// What one fetch brings.
        const LINE: usize = 64;
        // Registers that are shorter than a line fetch one for several lanes.
        if self.from.is_null() || !(lane * LANES * size_of::<f32>()).is_multiple_of(LINE) {
            return;
        }
        let lines_of_row = BLOCK_K * size_of::<T>() / LINE;
        let row = self.from.wrapping_add(self.line / lines_of_row * self.stride).cast::<u8>();
        V::prefetch(row.wrapping_add(self.line % lines_of_row * LINE));
        self.line += 1;
    }
}

/// The sums of [`few_rows`] over `length` numbers from `start` on.
#[inline(always)]
unsafe fn chain<V: Vector<LANES>, const LANES: usize, T: Stored, const R: usize>(
    x: *const f32,
    rows: &[*const T; LANES],
    start: usize,
    length: usize,
    ahead: &mut Ahead<T>,
) -> [V; R] {
    // SAFETY: the promise of `few_rows`.
    unsafe {
        let mut sums = [V::zero(); R];
        let square = LANES * T::PER_LANE;
        let squares_end = start + length / square * square;
        for at in (start..squares_end).step_by(square) {
            // Loops, not `map`: a closure is no place for instructions of its caller's set.
            let mut lines = [V::zero(); LANES];
            for (line, row) in lines.iter_mut().zip(rows) {
                *line = V::load(row.add(at).cast());
            }
            let columns = V::transposed(lines);
            for (lane, column) in columns.iter().enumerate() {
                ahead.fetch_lane::<V, LANES>(lane);
                let parts = T::widened::<V, LANES>(*column);
                for (part, w) in parts.iter().enumerate().take(T::PER_LANE) {
                    let x = x.add((at + lane * T::PER_LANE + part) * R);
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.mul_add(V::splat(x.add(row)), *w);
                    }
                }
            }
        }
        for at in squares_end..start + length {
            let mut w = [0f32; LANES];
            for (value, row) in w.iter_mut().zip(rows) {
                *value = (*row.add(at)).value();
            }
            let w = V::load(w.as_ptr());
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = sum.mul_add(V::splat(x.add(at * R + row)), w);
            }
        }
        sums
    }
}
