//! Matrices in somebody's buffer.

/// A matrix in somebody's buffer, in any order.
#[derive(Clone, Copy)]
pub(in super::super) struct View<'a, T = f32> {
    buffer: &'a [T],
    pub rows: usize,
    pub columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Copy> View<'a, T> {
    /// A matrix that begins at the start of `buffer`.
    ///
    /// # Panics
    /// If an element would lie outside.
    pub fn new(buffer: &'a [T], shape: [usize; 2], strides: [usize; 2]) -> Self {
        let [rows, columns] = shape;
        let [row_stride, column_stride] = strides;
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * row_stride + (columns - 1) * column_stride;
            assert!(last < buffer.len(), "element {last} of a buffer of {}", buffer.len());
        }
        Self { buffer, rows, columns, row_stride, column_stride }
    }

    /// A row-major matrix that fills `buffer`.
    pub fn dense(buffer: &'a [T], rows: usize, columns: usize) -> Self {
        Self::new(buffer, [rows, columns], [columns, 1])
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The first `rows` rows.
    pub fn first_rows(self, rows: usize) -> Self {
        assert!(rows <= self.rows, "{rows} rows of {}", self.rows);
        Self { rows, ..self }
    }

    /// `count` rows from `first` on.
    pub fn rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows {first}.. of {}", self.rows);
        Self { buffer: &self.buffer[first * self.row_stride..], rows: count, ..self }
    }

    /// Row `row`, of a matrix whose rows are contiguous.
    pub fn row(&self, row: usize) -> &'a [T] {
        assert_eq!(self.column_stride, 1, "the rows of this matrix are not contiguous");
        &self.buffer[row * self.row_stride..row * self.row_stride + self.columns]
    }

    /// The first element, and the distances from a row, and from a column, to the next.
    pub(in super::super) fn parts(&self) -> (*const T, [usize; 2]) {
        (self.buffer.as_ptr(), [self.row_stride, self.column_stride])
    }
}
