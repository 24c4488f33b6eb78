//! The innermost loops: one tile of the result at a time, in registers.
//!
//! Every number of the result is a chain of multiply-adds along `k` in order, begun anew every
//! [`super::BLOCK_K`] and then added to what is there. Neither the shape of a tile nor the number of rows
//! changes it.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use super::BLOCK_K;
use super::stored::Stored;
use super::vector::Vector;

/// What holds no more bytes is in the first cache, or nothing behind it is read next: nothing is fetched ahead.
const CACHED_BYTES: usize = 1 << 14;

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

impl<T> Rows<T> {
    /// Those from row `first` on.
    #[inline(always)]
    fn after(self, first: usize) -> Self {
        let from = self.from.wrapping_add(first * self.stride);
        Self { from, count: self.count - first, ..self }
    }

    /// All but the first `start` numbers of each.
    #[inline(always)]
    fn skipping(self, start: usize) -> Self {
        Self { from: self.from.wrapping_add(start), ..self }
    }
}

/// Writes `R` rows of `x` as `[k][R]`.
///
/// # Safety
/// Rows hold `k` numbers, and `to` has room for them all.
#[inline(always)]
pub(super) unsafe fn pack_few<const R: usize>(x: Rows<f32>, k: usize, to: *mut f32) {
    for at in 0..k {
        for row in 0..R {
            // SAFETY: the caller's promise.
            unsafe { *to.add(at * R + row) = *x.from.add(row * x.stride + at) };
        }
    }
}

/// `x w^T` for `R` rows of `x`, packed `[k][R]`, and all rows of `w`, each of which is read once.
///
/// Four numbers of `LANES` rows of `w` at a time become columns in registers, so that the order of every sum is that of
/// [`tile`].
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
    let cached = w.count * k * size_of::<T>() <= CACHED_BYTES;
    // SAFETY: the caller's promise.
    unsafe {
        for first in (0..w.count).step_by(LANES) {
            let w = w.after(first);
            for start in (0..k).step_by(BLOCK_K) {
                let ahead = if cached { Ahead::nothing() } else { Ahead::behind::<T, LANES>(w, start, k) };
                let length = BLOCK_K.min(k - start);
                let sums = chain::<V, LANES, T, R>(x.add(start * R), w.skipping(start), length, ahead);
                let output = output.at(0, first).adding_if(start > 0);
                for (row, sum) in sums.iter().enumerate() {
                    output.at(row, 0).take(*sum, w.count);
                }
            }
        }
    }
}

/// `R` rows of `a` times `C` registers of columns of `b`, whose rows are read as they lie; returns `C`.
///
/// # Safety
/// As [`Vector`] says; `a` and `b` hold `k` rows, those of `b` `C` registers each; so do the `R` rows of the output.
#[inline(always)]
pub(super) unsafe fn columns<V: Vector<LANES>, const LANES: usize, const R: usize, const C: usize>(
    k: usize,
    a: Rows<f32>,
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
                let mut lines = [V::zero(); C];
                for (column, line) in lines.iter_mut().enumerate() {
                    *line = V::load(b.add(column * LANES));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = V::splat(a.from.add(row * a.stride + at));
                    for (sum, line) in sums.iter_mut().zip(lines) {
                        *sum = sum.mul_add(x, line);
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

/// What will be read next, [`BLOCK_K`] numbers of some rows: fetched line by line while other columns are worked on.
pub(super) struct Ahead {
    next: *const u8,
    /// Bytes of this row that are left to fetch, and from its end to the next one.
    left: usize,
    gap: usize,
    row: usize,
}

impl Ahead {
    /// Rows that begin at `from`, which may be anywhere, and are `stride` apart; nothing if `from` is null.
    #[inline(always)]
    pub fn new<T>(from: *const T, stride: usize) -> Self {
        let row = BLOCK_K * size_of::<T>();
        Self { next: from.cast(), left: row, gap: (stride * size_of::<T>()).wrapping_sub(row), row }
    }

    #[inline(always)]
    fn nothing() -> Self {
        Self::new(std::ptr::null::<f32>(), 0)
    }

    /// What to fetch while the first `LANES` rows of `w`, of `k` numbers, are worked on, from number `start` on.
    ///
    /// Memory is fastest in long pieces, and the first cache best used with what is needed soon. A block of a row
    /// in f32 is 1 KiB, which is long enough: the next blocks of the same rows are fetched. In 16 bits, or where rows
    /// are shorter, it is not, and the next rows are fetched as they lie.
    #[inline(always)]
    fn behind<T: Stored, const LANES: usize>(w: Rows<T>, start: usize, k: usize) -> Self {
        let next_rows = w.from.wrapping_add(LANES * w.stride);
        match T::PER_LANE {
            1 if start + BLOCK_K < k => Self::new(w.from.wrapping_add(start + BLOCK_K), w.stride),
            1 if k >= BLOCK_K => Self::new(next_rows, w.stride),
            _ => Self::new(next_rows.wrapping_add(start * LANES), BLOCK_K),
        }
    }

    /// Where that begins which is fetched while the next four registers of columns are worked on; null if there is
    /// nothing.
    #[inline(always)]
    pub fn of_four<const LANES: usize>(&mut self) -> *const u8 {
        let bytes = 4 * LANES * size_of::<f32>();
        let from = self.next;
        if !from.is_null() {
            (self.next, self.left) = (from.wrapping_add(bytes), self.left - bytes);
            if self.left == 0 {
                (self.next, self.left) = (self.next.wrapping_add(self.gap), self.row);
            }
        }
        from
    }
}

/// Fetches register `column` of what begins at `from`: a line at a time, because a machine waits for no more than so many
/// at once, and what is worked on must not queue behind them.
#[inline(always)]
pub(super) fn fetch<V: Vector<LANES>, const LANES: usize>(from: *const u8, column: usize) {
    /// What a fetch brings.
    const LINE: usize = 64;
    let byte = column * LANES * size_of::<f32>();
    // Registers that are shorter than a line fetch one for several columns.
    if !from.is_null() && byte.is_multiple_of(LINE) {
        V::prefetch(from.wrapping_add(byte));
    }
}

/// `value`, which the compiler takes for a new one each time. So it loads what lies there no earlier, and computes other
/// places from it where they are wanted: it would do all that beforehand and keep it on the stack, for want of registers.
#[inline(always)]
fn anew<T>(value: *const T) -> *const T {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut value = value;
        // SAFETY: no instruction.
        #[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read there")]
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) value, options(nomem, nostack, preserves_flags))
        };
        value
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    value
}

/// Contiguous rows, up to `LANES` of them, that are read as columns, four registers at a time.
pub(super) struct ByColumns<T> {
    rows: Rows<T>,
    /// Where every fourth row goes on; for fours of which there are none, where the last does.
    fourths: [*const T; 4],
}

impl<T: Stored> ByColumns<T> {
    /// Numbers of a row that four registers of columns hold.
    pub const NUMBERS: usize = 4 * T::PER_LANE;

    #[inline(always)]
    pub fn of(rows: Rows<T>) -> Self {
        let mut fourths = [rows.from; 4];
        for (fourth, row) in fourths.iter_mut().enumerate() {
            *row = row.wrapping_add(rows.count.saturating_sub(4).min(4 * fourth) * rows.stride);
        }
        Self { rows, fourths }
    }

    /// The columns from number `at` on, which comes behind those of the call before; zeros, or others' numbers, where
    /// there are no rows.
    ///
    /// # Safety
    /// As [`Vector`] says; rows hold so many numbers.
    #[inline(always)]
    pub unsafe fn next<V: Vector<LANES>, const LANES: usize>(&mut self, at: usize) -> [V; 4] {
        let Rows { stride, count, .. } = self.rows;
        // SAFETY: the caller's promise.
        unsafe {
            if count >= LANES || (count > 0 && count.is_multiple_of(4)) {
                let columns = V::four_columns(self.fourths, stride);
                for row in &mut self.fourths {
                    *row = anew(row.wrapping_add(Self::NUMBERS));
                }
                return columns;
            }
            let mut held = [[0f32; 4]; LANES];
            let from = anew(self.rows.from.add(at));
            for (row, held) in held.iter_mut().enumerate().take(count) {
                *held = from.add(row * stride).cast::<[f32; 4]>().read_unaligned();
            }
            V::four_columns([0, 4, 8, 12].map(|row| held.as_ptr().wrapping_add(row).cast::<f32>()), 4)
        }
    }
}

/// The sums of [`few_rows`] over the first `length` numbers for the first `LANES` rows of `w`.
///
/// # Safety
/// That of [`few_rows`]; `x` is packed `[k][R]`.
#[inline(always)]
unsafe fn chain<V: Vector<LANES>, const LANES: usize, T: Stored, const R: usize>(
    mut x: *const f32,
    w: Rows<T>,
    length: usize,
    mut ahead: Ahead,
) -> [V; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [V::zero(); R];
        let mut by_columns = ByColumns::of(w);
        let fours_end = length / ByColumns::<T>::NUMBERS * ByColumns::<T>::NUMBERS;
        for at in (0..fours_end).step_by(ByColumns::<T>::NUMBERS) {
            let columns = by_columns.next::<V, LANES>(at);
            let next = ahead.of_four::<LANES>();
            for (column, lanes) in columns.iter().enumerate() {
                fetch::<V, LANES>(next, column);
                let parts = T::widened::<V, LANES>(*lanes);
                for w in parts.iter().take(T::PER_LANE) {
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.mul_add(V::splat(x.add(row)), *w);
                    }
                    // Many sums fill the registers: what comes later must not be loaded before.
                    x = if R >= 4 { anew(x.add(R)) } else { x.add(R) };
                }
            }
        }
        for at in fours_end..length {
            let (from, mut lanes) = (anew(w.from.add(at)), [0f32; LANES]);
            for (lane, value) in lanes.iter_mut().enumerate().take(w.count) {
                *value = (*from.add(lane * w.stride)).value();
            }
            let w = V::load(lanes.as_ptr());
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = sum.mul_add(V::splat(x.add(row)), w);
            }
            x = x.add(R);
        }
        sums
    }
}
