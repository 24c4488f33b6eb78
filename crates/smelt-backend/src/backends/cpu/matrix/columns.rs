//! A right operand that is packed once for several products.

#![allow(unsafe_code, reason = "the loops take pointers and strides")]

use std::ops::Range;

use super::leaves::{self, Panels};
use super::lines::Room;
use super::pack::Lines;
use super::tile::{Output, Rows};
use super::{BLOCK_K, Destination, View};

/// A matrix as tiles read it: blocks of [`BLOCK_K`] rows, of each of which panels of as many columns as a tile has lie
/// one after the other.
#[derive(Debug, Default)]
pub(in super::super) struct Columns {
    packed: Room,
    rows: usize,
    columns: usize,
}

impl Columns {
    /// Holds `b` from now on.
    pub fn hold(&mut self, b: View<'_>) {
        let width = 2 * leaves::tile_shape().0;
        (self.rows, self.columns) = (b.rows, b.columns);
        let needed = self.rows * self.columns.next_multiple_of(width);
        let packed = self.packed.of(needed).as_mut_ptr();
        let (from, [row_stride, column_stride]) = b.parts();
        for start in (0..self.rows).step_by(BLOCK_K) {
            let length = BLOCK_K.min(self.rows - start);
            for column in (0..self.columns).step_by(width) {
                let at = self.panel(start, column, length);
                // SAFETY: the view vouches for the numbers of the panel, and there is room for each.
                unsafe {
                    let from = from.add(start * row_stride + column * column_stride);
                    let count = width.min(self.columns - column);
                    let lines = Lines { from, count, stride: column_stride, step: row_stride };
                    leaves::pack(lines, length, width, packed.add(at), std::ptr::null());
                }
            }
        }
    }

    /// Where a panel begins, of the block from row `start` on that has `length` rows.
    fn panel(&self, start: usize, column: usize, length: usize) -> usize {
        let width = 2 * leaves::tile_shape().0;
        start * self.columns.next_multiple_of(width) + column * length
    }

    /// `destination (+)= scale * a b`, for some rows and columns of what is held; on this thread, and to the same bits
    /// as [`product`](super::product).
    ///
    /// # Panics
    /// If the shapes do not fit each other or the destination, or where the rows do not begin with a block, or the
    /// columns with a panel.
    pub fn product(
        &self,
        (destination, row_stride): (&mut [f32], usize),
        mode: Destination,
        scale: f32,
        a: View<'_>,
        [rows, columns]: [Range<usize>; 2],
    ) {
        let width = 2 * leaves::tile_shape().0;
        let (m, n) = (a.rows, columns.len());
        assert!(
            rows.start.is_multiple_of(BLOCK_K) && columns.start.is_multiple_of(width),
            "{rows:?} {columns:?}"
        );
        assert!(
            rows.end <= self.rows && columns.end <= self.columns,
            "{rows:?} x {columns:?} of what is held"
        );
        assert_eq!(a.columns, rows.len(), "a {m} x {} matrix times one of {} rows", a.columns, rows.len());
        if m == 0 || n == 0 || rows.is_empty() {
            assert!(m * n == 0 || mode == Destination::Add, "a product of nothing has nowhere to go");
            return;
        }
        assert!(row_stride >= n && (m - 1) * row_stride + n <= destination.len(), "{m} x {n} does not fit");
        let (from, [a_stride, step]) = a.parts();
        for start in rows.clone().step_by(BLOCK_K) {
            let add = mode == Destination::Add || start > rows.start;
            let output = Output { to: destination.as_mut_ptr(), row_stride, scale, add };
            let block = BLOCK_K.min(self.rows - start);
            let length = block.min(rows.end - start);
            // SAFETY: the view and the assertions above hold every number within its buffer, and `destination` is
            // borrowed exclusively.
            unsafe {
                let from = from.add((start - rows.start) * step);
                let a = Rows { from, stride: a_stride, count: m };
                let b = self.packed.from().add(self.panel(start, columns.start, block));
                let b = Panels { from: b, count: n, step: width, stride: block * width };
                leaves::tiles_of_rows(length, a, step, b, output);
            }
        }
    }
}
