//! A product divided into pieces that fit the caches, and among threads.

#![allow(unsafe_code, reason = "pieces of one matrix are written by several threads")]

use std::cell::RefCell;
use std::ops::Range;

use super::leaves::{self, FEW_ROWS, Panels};
use super::lines::Room;
use super::pack::Lines;
use super::stored::Stored;
use super::tile::{Output, Rows};
use super::{BLOCK_K, Threads, View};
use crate::backends::cpu::team;

/// Numbers of `a` that are packed at a time: 4 MiB.
const PACKED: usize = 1 << 20;
/// Of which each row has up to this many.
const PACKED_K: usize = 16 * BLOCK_K;
/// Rows of `a` that stay in the second cache, together with the columns that are packed for them.
const CACHED_ROWS: usize = 384;
/// Columns that are packed at a time.
const CACHED_COLUMNS: usize = 128;
/// With up to this many rows, `b` is packed in the order in which it lies in memory.
const STREAMED_ROWS: usize = 48;
/// Pieces for each thread, so that all end at about the same time.
const PIECES: usize = 4;
/// Bytes of a matrix that is read once from which on threads share it.
const READ_BYTES: usize = 32 << 10;
/// Multiplications from which on they share one that is read more often.
const MULTIPLICATIONS: usize = 1 << 18;
/// So many times either are worth waking a thread: less than that, a model is so small that its threads would do
/// little but look for work, while others of the machine could use their cores.
const WAKING: usize = 8;

/// A matrix by its first element and the distances from a row, and from a column, to the next.
#[derive(Clone, Copy)]
struct Matrix<T> {
    from: *const T,
    row_stride: usize,
    column_stride: usize,
}

impl<T: Copy> Matrix<T> {
    fn of(view: View<'_, T>) -> Self {
        let (from, [row_stride, column_stride]) = view.parts();
        Self { from, row_stride, column_stride }
    }

    /// # Safety
    /// The element is in the matrix.
    unsafe fn at(self, row: usize, column: usize) -> *const T {
        // SAFETY: the caller's promise.
        unsafe { self.from.add(row * self.row_stride + column * self.column_stride) }
    }

    /// `count` rows from the element on.
    ///
    /// # Safety
    /// The element is in the matrix.
    unsafe fn row_lines(self, [row, column]: [usize; 2], count: usize) -> Lines<T> {
        // SAFETY: the caller's promise.
        let from = unsafe { self.at(row, column) };
        Lines { from, count, stride: self.row_stride, step: self.column_stride }
    }

    /// `count` columns from the element on.
    ///
    /// # Safety
    /// The element is in the matrix.
    unsafe fn column_lines(self, [row, column]: [usize; 2], count: usize) -> Lines<T> {
        // SAFETY: the caller's promise.
        let from = unsafe { self.at(row, column) };
        Lines { from, count, stride: self.column_stride, step: self.row_stride }
    }
}

/// Lets threads share pointers to the matrices of a product that lasts longer than their work.
struct Shared<T>(T);

// SAFETY: all threads read the operands, and each writes parts of the output that no other does.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// The value; a method, so that closures take the whole.
    fn get(&self) -> T {
        self.0
    }
}

/// Calls `work` for `count` pieces.
fn for_each(count: usize, threads: Threads, work: impl Fn(usize) + Sync) {
    match threads {
        Threads::One => (0..count).for_each(work),
        Threads::Awake => team::each_awake(count, &work),
        Threads::All => team::each(count, &work),
    }
}

/// Calls `work` with ranges that make up all numbers below `count`.
fn for_each_range(count: usize, threads: Threads, work: impl Fn(Range<usize>) + Sync) {
    match threads {
        Threads::One => work(0..count),
        Threads::Awake => team::each_range_awake(count, &work),
        Threads::All => team::each_range(count, &work),
    }
}

thread_local! {
    /// Packed rows of `a`, and packed columns of `b`, kept for the next product.
    static PACKED_ROWS: RefCell<Room> = const { RefCell::new(Room::new()) };
    static PACKED_COLUMNS: RefCell<Room> = const { RefCell::new(Room::new()) };
}

/// `output (+)= scale * a b`
///
/// # Safety
/// `output` is as large as the product, and nobody else has it.
pub(super) unsafe fn product<T: Stored>(a: View<'_>, b: View<'_, T>, output: Output, threads: Threads) {
    let [m, n, k] = [a.rows, b.columns, a.columns];
    let (a, b) = (Matrix::of(a), Matrix::of(b));
    // SAFETY: the caller's promise; the views vouch for `a` and `b`.
    PACKED_ROWS.with_borrow_mut(|packed| unsafe {
        let fills_registers = n.is_multiple_of(leaves::tile_shape().0);
        let by_rows = T::PER_LANE == 1 && b.column_stride == 1 && fills_registers;
        if m <= FEW_ROWS && (b.row_stride == 1 || by_rows) {
            few_rows(a, b, output, [m, n, k], packed, threads);
        } else {
            let threads = threads_for(m * n * k, MULTIPLICATIONS, threads);
            many_rows(a, b, output, [m, n, k], packed, threads);
        }
    });
}

/// `b` is read as it lies: its columns are contiguous; or its rows, which are in f32 then and fill registers.
unsafe fn few_rows<T: Stored>(
    a: Matrix<f32>,
    b: Matrix<T>,
    output: Output,
    [m, n, k]: [usize; 3],
    packed: &mut Room,
    threads: Threads,
) {
    let lanes = leaves::tile_shape().0;
    let rows = Rows { from: a.from, stride: a.row_stride, count: m };
    let x = if a.column_stride == 1 && (m == 1 || b.row_stride != 1) {
        rows
    } else {
        let packed = packed.of(m * k).as_mut_ptr();
        // SAFETY: the promise of `product`, and there is room for all rows.
        unsafe {
            match (b.row_stride, a.column_stride) {
                (1, 1) => leaves::pack_few(rows, k, packed),
                (1, _) => leaves::pack(a.row_lines([0, 0], m), k, m, packed, std::ptr::null()),
                _ => leaves::pack(a.column_lines([0, 0], k), m, k, packed, std::ptr::null()),
            }
        }
        Rows { from: packed, stride: k, count: m }
    };
    let threads = threads_for(n * k * size_of::<T>(), READ_BYTES, threads);
    let shared = Shared((x, b, output));
    for_each_range(n.div_ceil(lanes), threads, |registers| {
        let (x, b, output) = shared.get();
        let columns = registers.start * lanes..n.min(registers.end * lanes);
        // SAFETY: the promise of `product`; ranges are columns of the output that do not overlap.
        unsafe {
            let (from, count, output) = (b.at(0, columns.start), columns.len(), output.at(0, columns.start));
            if b.row_stride == 1 {
                let rows = Rows { from, stride: b.column_stride, count };
                leaves::few_rows(m, x.from, rows, k, output);
            } else {
                // One number in a lane is one in f32.
                let b = Panels { from: from.cast(), count, step: b.row_stride, stride: lanes };
                leaves::few_rows_by_columns(k, x, b, output);
            }
        }
    });
}

/// Who of `threads` does so much work, of which `least` is worth a thread's while.
fn threads_for(work: usize, least: usize, threads: Threads) -> Threads {
    let most = match work {
        work if work < least => Threads::One,
        work if work < WAKING * least => Threads::Awake,
        _ => Threads::All,
    };
    threads.min(most)
}

unsafe fn many_rows<T: Stored>(
    a: Matrix<f32>,
    b: Matrix<T>,
    output: Output,
    [m, n, k]: [usize; 3],
    packed: &mut Room,
    threads: Threads,
) {
    let tile_rows = leaves::tile_shape().1;
    let part_k = k.min(PACKED_K);
    let part_m = m.min((PACKED / part_k).next_multiple_of(tile_rows));
    let packed = packed.of(part_m * part_k);
    for first_k in (0..k).step_by(part_k) {
        for first_m in (0..m).step_by(part_m) {
            let part = Part {
                m: part_m.min(m - first_m),
                n,
                k: part_k.min(k - first_k),
                // SAFETY: the promise of `product`.
                b: Matrix { from: unsafe { b.at(first_k, 0) }, ..b },
                // SAFETY: as above.
                output: unsafe { output.at(first_m, 0) }.adding_if(first_k > 0),
                packed: packed.as_mut_ptr(),
                tile_rows,
            };
            // SAFETY: as above.
            unsafe {
                part.pack(Matrix { from: a.at(first_m, first_k), ..a }, threads);
                part.multiply(threads);
            }
        }
    }
}

/// Part of a product whose rows of `a` are packed at once.
#[derive(Clone, Copy)]
struct Part<T> {
    m: usize,
    n: usize,
    k: usize,
    b: Matrix<T>,
    output: Output,
    packed: *mut f32,
    tile_rows: usize,
}

impl<T: Stored> Part<T> {
    /// Panels of rows lie behind each other, for one block of `k` after the other.
    unsafe fn pack(self, a: Matrix<f32>, threads: Threads) {
        /// Panels that one thread packs at a time.
        const PANELS: usize = 2;
        let rows = PANELS * self.tile_rows;
        let shared = Shared((self, a));
        for_each(self.m.div_ceil(rows), threads, |index| {
            let (part, a) = shared.get();
            for first in (index * rows..part.m.min((index + 1) * rows)).step_by(part.tile_rows) {
                let count = part.tile_rows.min(part.m - first);
                for start in (0..part.k).step_by(BLOCK_K) {
                    let length = BLOCK_K.min(part.k - start);
                    // SAFETY: the promise of `product`; each panel has its place.
                    unsafe {
                        let to = part.packed.add(part.m * start + first * length);
                        let lines = a.row_lines([first, start], count);
                        leaves::pack(lines, length, count, to, lines.from.wrapping_add(length));
                    }
                }
            }
        });
    }

    unsafe fn multiply(self, threads: Threads) {
        let wanted = if threads > Threads::One { PIECES * team::threads() } else { 1 };
        let most_down = self.m.div_ceil(CACHED_ROWS / 2).max(1);
        // Where there are too few rows to divide, columns are, even if a thread then has few of them.
        let is_narrow = most_down == 1 && self.n < wanted * CACHED_COLUMNS;
        let width = if is_narrow { 2 * leaves::tile_shape().0 } else { CACHED_COLUMNS };
        let columns = self.n.div_ceil(wanted).next_multiple_of(width);
        let across = self.n.div_ceil(columns);
        let down = wanted.div_ceil(across).min(most_down);
        let rows = self.m.div_ceil(down).next_multiple_of(self.tile_rows);
        let down = self.m.div_ceil(rows);
        let shared = Shared(self);
        for_each(across * down, threads, |index| {
            let part = shared.get();
            let (first_row, first_column) = (index % down * rows, index / down * columns);
            let counts = [rows.min(part.m - first_row), columns.min(part.n - first_column)];
            // SAFETY: the promise of `product`; pieces of the output do not overlap.
            PACKED_COLUMNS
                .with_borrow_mut(|packed| unsafe { part.piece([first_row, first_column], counts, packed) });
        });
    }

    /// `rows` x `columns` of the output, from a place on.
    unsafe fn piece(
        self,
        [first_row, first_column]: [usize; 2],
        [rows, columns]: [usize; 2],
        packed: &mut Room,
    ) {
        let width = 2 * leaves::tile_shape().0;
        let cached = if self.m <= STREAMED_ROWS { width } else { CACHED_COLUMNS };
        let packed = packed.of(cached.next_multiple_of(width) * BLOCK_K).as_mut_ptr();
        for column in (first_column..first_column + columns).step_by(cached) {
            let count = cached.min(first_column + columns - column);
            for start in (0..self.k).step_by(BLOCK_K) {
                let length = BLOCK_K.min(self.k - start);
                // SAFETY: the promise of `product`; the buffer has room for all columns.
                unsafe {
                    let b = self.columns([start, column], length, count, packed);
                    for row in (first_row..first_row + rows).step_by(CACHED_ROWS) {
                        let count = CACHED_ROWS.min(first_row + rows - row);
                        let from = self.packed.add(self.m * start + row * length);
                        let a = Panels { from, count, step: 0, stride: 0 };
                        let output = self.output.at(row, column).adding_if(start > 0);
                        leaves::tiles(length, a, b, output);
                    }
                }
            }
        }
    }

    /// `length` x `count` of `b`, from a place on: as they lie, if they are used once and fit; otherwise packed.
    unsafe fn columns(
        self,
        [start, column]: [usize; 2],
        length: usize,
        count: usize,
        packed: *mut f32,
    ) -> Panels {
        let width = 2 * leaves::tile_shape().0;
        let in_place = T::PER_LANE == 1 && self.b.column_stride == 1 && count.is_multiple_of(width);
        if in_place && self.m <= self.tile_rows {
            // SAFETY: the promise of `product`; one number in a lane is one in f32.
            let from = unsafe { self.b.at(start, column) }.cast();
            return Panels { from, count, step: self.b.row_stride, stride: width };
        }
        for first in (0..count).step_by(width) {
            // SAFETY: the promise of `product`; the buffer has room for all columns.
            unsafe {
                let lines = self.b.column_lines([start, column + first], width.min(count - first));
                let ahead = lines.from.wrapping_add(self.next_of(start, width));
                leaves::pack(lines, length, width, packed.add(first * length), ahead);
            }
        }
        Panels { from: packed, count, step: width, stride: width * length }
    }
    /// How far behind a panel of `width` columns the one lies that is packed next, where columns are contiguous.
    fn next_of(self, start: usize, width: usize) -> usize {
        let next_panel = width * self.b.column_stride;
        match (self.m <= STREAMED_ROWS, start + BLOCK_K < self.k) {
            (true, true) => BLOCK_K,
            // `k` begins anew there.
            (true, false) => next_panel.saturating_sub(start),
            (false, _) => next_panel,
        }
    }
}
