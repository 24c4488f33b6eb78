//! Products of matrices in bf16, summed up in f32 by the unit that a machine has for them.
//!
//! A sum is a chain over all of `k`, two numbers at a time; what is too small for f32's normal numbers counts as zero.
//! Both operands are copied into squares of 16 lines by 32 numbers: rows of `a` as they are, columns of `b` pair by pair.

#![cfg_attr(
    target_arch = "x86_64",
    allow(
        unsafe_code,
        reason = "instructions that not every machine has; pieces of one matrix written by threads"
    )
)]

use half::bf16;

use super::View;
use crate::backends::cpu::simd::Bf16Unit;

/// `start + a b`, or `a b`, row-major.
///
/// # Panics
/// If the shapes do not fit each other, or the start.
pub(in super::super) fn product_of_bf16(
    unit: Bf16Unit,
    start: Option<Vec<f32>>,
    a: View<'_, bf16>,
    b: View<'_, bf16>,
) -> Vec<f32> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "a {m} x {k} matrix times one of {} rows", b.rows);
    assert!(start.as_ref().is_none_or(|start| start.len() == m * n), "a start of {m} x {n} numbers");
    #[cfg(not(target_arch = "x86_64"))]
    match unit {}
    #[cfg(target_arch = "x86_64")]
    if m * n * k == 0 { start.unwrap_or_else(|| vec![0.0; m * n]) } else { x86::product(unit, start, a, b) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::cell::RefCell;

    use half::bf16;

    use super::{Bf16Unit, View};
    #[cfg(target_os = "linux")]
    use crate::backends::cpu::amx;
    use crate::backends::cpu::matrix::Vector;
    use crate::backends::cpu::team;

    /// Lines of a square.
    const LINES: usize = 16;
    /// Numbers of each.
    const NUMBERS: usize = 32;
    /// Rows, and columns, that are multiplied at a time: those of two squares.
    const TILE: usize = 2 * LINES;
    /// Steps along `k` after which the next tile takes its turn: so much of `b` stays in the first cache.
    const STEPS: usize = 16;
    /// Tiles down and across that one thread takes at a time: so much of `a` stays in the second.
    const TASK: usize = 4;

    /// 16 lines of 32 numbers, or 16 pairs of each of 16 columns.
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    struct Square([[u32; 16]; 16]);

    const ZEROS: Square = Square([[0; 16]; 16]);

    thread_local! {
        /// Squares of `a` and `b`, kept for the next product.
        static PACKED: RefCell<[Vec<Square>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    }

    /// Rows of `a`, or columns of `b`, `count` of them with `k` numbers each.
    #[derive(Clone, Copy)]
    struct Lines<'a> {
        view: View<'a, bf16>,
        count: usize,
        k: usize,
        /// From a line, and from a number of a line, to the next.
        strides: [usize; 2],
        /// Squares hold numbers pair by pair.
        by_pairs: bool,
    }

    impl<'a> Lines<'a> {
        fn rows(view: View<'a, bf16>) -> Self {
            let (_, strides) = view.parts();
            Self { view, count: view.rows, k: view.columns, strides, by_pairs: false }
        }

        fn columns(view: View<'a, bf16>) -> Self {
            Self { by_pairs: true, ..Self::rows(view.transposed()) }
        }

        /// As squares: for two after two of 16 lines, those along `k`.
        fn packed(self, buffer: &mut Vec<Square>) -> &[Square] {
            let (tiles, steps) = (self.count.div_ceil(TILE), self.k.div_ceil(NUMBERS));
            let needed = tiles * steps * 2;
            if buffer.len() < needed {
                buffer.resize(needed, ZEROS);
            }
            let packed = &mut buffer[..needed];
            team::for_each(packed.chunks_mut(steps * 2).enumerate(), |(tile, squares)| {
                for (index, square) in squares.iter_mut().enumerate() {
                    let (line, number) = (tile * TILE + index % 2 * LINES, index / 2 * NUMBERS);
                    // SAFETY: the machine has a unit for bf16, and AVX-512 with it.
                    unsafe { self.pack(square, line, number) };
                }
            });
            packed
        }

        /// The square from a number of a line on, with zeros beyond the last ones.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn pack(self, to: &mut Square, line: usize, number: usize) {
            let (from, _) = self.view.parts();
            let [line_stride, step] = self.strides;
            let at = |line: usize, number: usize| from.wrapping_add(line * line_stride + number * step);
            let is_whole = line + LINES <= self.count && number + NUMBERS <= self.k;
            if is_whole && (step == 1 || line_stride == 1) {
                let mut rows = [_mm512_setzero_ps(); 16];
                for (index, row) in rows.iter_mut().enumerate() {
                    // SAFETY: the view vouches for the numbers of the square, 32 or 16 of which lie side by side.
                    unsafe {
                        *row = if step == 1 {
                            _mm512_loadu_ps(at(line + index, number).cast())
                        } else {
                            let [low, high] = [0, 1].map(|odd| at(line, number + 2 * index + odd));
                            pairs(_mm256_loadu_si256(low.cast()), _mm256_loadu_si256(high.cast()))
                        };
                    }
                }
                if (step == 1) == self.by_pairs {
                    // SAFETY: AVX-512 is on.
                    rows = unsafe { Vector::transposed(rows) };
                }
                for (to, row) in to.0.iter_mut().zip(rows) {
                    // SAFETY: a line of a square is as long as a register.
                    unsafe { _mm512_storeu_ps(to.as_mut_ptr().cast(), row) };
                }
                return;
            }
            *to = ZEROS;
            for row in 0..LINES.min(self.count.saturating_sub(line)) {
                for column in 0..NUMBERS.min(self.k - number) {
                    // SAFETY: the view vouches for its numbers.
                    let bits = u32::from(unsafe { *at(line + row, number + column) }.to_bits());
                    let (row, pair) = if self.by_pairs { (column / 2, row) } else { (row, column / 2) };
                    to.0[row][pair] |= bits << (column % 2 * 16);
                }
            }
        }
    }

    /// 16 numbers in the low halves of lanes, and 16 in the high ones.
    #[target_feature(enable = "avx512f")]
    fn pairs(low: __m256i, high: __m256i) -> __m512 {
        let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
        _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(low), high))
    }

    /// A product whose operands are packed.
    #[derive(Clone, Copy)]
    struct Product<'a> {
        unit: Bf16Unit,
        a: &'a [Square],
        b: &'a [Square],
        steps: usize,
        shape: [usize; 2],
        to: *mut f32,
        /// What is in the output counts.
        add: bool,
    }

    // SAFETY: threads write parts of the output that no other does.
    unsafe impl Sync for Product<'_> {}

    /// As [`super::product_of_bf16`], of matrices that are not empty.
    pub(super) fn product(
        unit: Bf16Unit,
        start: Option<Vec<f32>>,
        a: View<'_, bf16>,
        b: View<'_, bf16>,
    ) -> Vec<f32> {
        let shape = [a.rows, b.columns];
        let count = shape[0] * shape[1];
        let add = start.is_some();
        let mut output = start.unwrap_or_else(|| Vec::with_capacity(count));
        PACKED.with_borrow_mut(|[packed_a, packed_b]| {
            let steps = a.columns.div_ceil(NUMBERS);
            let (a, b) = (Lines::rows(a).packed(packed_a), Lines::columns(b).packed(packed_b));
            let product = Product { unit, a, b, steps, shape, to: output.as_mut_ptr(), add };
            let down = shape[0].div_ceil(TASK * TILE);
            let across = shape[1].div_ceil(TASK * TILE);
            // SAFETY: the machine has the unit; tasks are pieces of the output that do not overlap.
            team::each(down * across, &|task| unsafe { product.task(task / across, task % across) });
        });
        // SAFETY: there is room for them, and all were written.
        unsafe { output.set_len(count) };
        output
    }

    impl Product<'_> {
        /// The tiles of the `row`th and `column`th task.
        unsafe fn task(&self, row: usize, column: usize) {
            let tiles = |task: usize, size: usize| task * TASK..(task * TASK + TASK).min(size.div_ceil(TILE));
            #[cfg(target_os = "linux")]
            if self.unit == Bf16Unit::Squares {
                // SAFETY: the caller's promise.
                unsafe { amx::set_up() };
            }
            for step in (0..self.steps).step_by(STEPS) {
                for column in tiles(column, self.shape[1]) {
                    for row in tiles(row, self.shape[0]) {
                        // SAFETY: as above.
                        unsafe { self.tile([row, column], step) };
                    }
                }
            }
            #[cfg(target_os = "linux")]
            if self.unit == Bf16Unit::Squares {
                // SAFETY: the tiles are set up.
                unsafe { amx::release() };
            }
        }

        /// One tile, for some steps from `step` on.
        unsafe fn tile(&self, [row, column]: [usize; 2], step: usize) {
            let steps = STEPS.min(self.steps - step);
            let a = self.a[(row * self.steps + step) * 2..].as_ptr().cast();
            let b = self.b[(column * self.steps + step) * 2..].as_ptr().cast();
            let [rows, columns] = [(row, 0), (column, 1)].map(|(tile, dim)| self.shape[dim] - tile * TILE);
            let stride = self.shape[1];
            let add = self.add || step > 0;
            // SAFETY: the tile begins in the output, and if it ends there, holds what is read and written.
            unsafe {
                let to = self.to.add(row * TILE * stride + column * TILE);
                if rows >= TILE && columns >= TILE {
                    let from = if add { (to.cast_const(), stride) } else { (ZERO_LINE.0.as_ptr(), 0) };
                    return multiply(self.unit, steps, a, b, from, (to, stride));
                }
                let (rows, columns) = (rows.min(TILE), columns.min(TILE));
                let mut edge = [0f32; TILE * TILE];
                let lines = |row: usize| (to.add(row * stride), row * TILE);
                if add {
                    for (line, at) in (0..rows).map(lines) {
                        edge[at..at + columns].copy_from_slice(std::slice::from_raw_parts(line, columns));
                    }
                }
                let whole = edge.as_mut_ptr();
                multiply(self.unit, steps, a, b, (whole.cast_const(), TILE), (whole, TILE));
                for (line, at) in (0..rows).map(lines) {
                    line.copy_from_nonoverlapping(edge[at..].as_ptr(), columns);
                }
            }
        }
    }

    /// 32 zeros, each line of a tile that starts from nothing.
    #[repr(C, align(64))]
    struct ZeroLine([f32; TILE]);

    static ZERO_LINE: ZeroLine = ZeroLine([0.0; TILE]);

    /// `to = from + a b` for one tile of numbers in f32, whose lines are a stride apart.
    ///
    /// # Safety
    /// The machine has the unit, and its tiles are set up; `a` and `b` hold two squares for each step.
    unsafe fn multiply(
        unit: Bf16Unit,
        steps: usize,
        a: *const u8,
        b: *const u8,
        from: (*const f32, usize),
        to: (*mut f32, usize),
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match unit {
                Bf16Unit::Pairs => multiply_pairs(steps, a, b, from, to),
                #[cfg(target_os = "linux")]
                Bf16Unit::Squares => amx::multiply(steps, a, b, from, to),
            }
        }
    }

    /// As [`multiply`], 8 rows at a time, which fill the registers.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn multiply_pairs(
        steps: usize,
        a: *const u8,
        b: *const u8,
        (from, from_stride): (*const f32, usize),
        (to, to_stride): (*mut f32, usize),
    ) {
        const ROWS: usize = 8;
        const LINE: usize = 64;
        const SQUARE: usize = size_of::<Square>();
        for first in (0..TILE).step_by(ROWS) {
            // SAFETY: the promise of `multiply`.
            unsafe {
                let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let from = from.add((first + row) * from_stride);
                    *sums = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LINES))];
                }
                for step in 0..steps {
                    let a = a.add(step * 2 * SQUARE + first * LINE);
                    let b = b.add(step * 2 * SQUARE);
                    for pair in 0..LINES {
                        let columns = [b, b.add(SQUARE)].map(|b| b.add(pair * LINE).cast::<__m512bh>());
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let x = _mm512_set1_epi32(a.add(row * LINE + pair * 4).cast::<i32>().read());
                            let x: __m512bh = std::mem::transmute(x);
                            for (sum, column) in sums.iter_mut().zip(columns) {
                                *sum = _mm512_dpbf16_ps(*sum, x, column.read());
                            }
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    let to = to.add((first + row) * to_stride);
                    _mm512_storeu_ps(to, sums[0]);
                    _mm512_storeu_ps(to.add(LINES), sums[1]);
                }
            }
        }
    }
}
