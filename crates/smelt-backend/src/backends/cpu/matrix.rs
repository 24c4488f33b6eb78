//! Matrix products on strided views, by the `gemm` crate.

use burn_flex::FlexTensor;
use gemm::Parallelism;

/// A matrix in somebody's buffer, in any order.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    buffer: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// A matrix that begins at the start of `buffer`.
    ///
    /// # Panics
    /// If an element would lie outside.
    pub fn new(buffer: &'a [f32], shape: [usize; 2], strides: [usize; 2]) -> Self {
        let [rows, columns] = shape;
        let [row_stride, column_stride] = strides;
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * row_stride + (columns - 1) * column_stride;
            assert!(last < buffer.len(), "element {last} of a buffer of {}", buffer.len());
        }
        Self { buffer, rows, columns, row_stride, column_stride }
    }

    /// A row-major matrix that fills `buffer`.
    pub fn dense(buffer: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::new(buffer, [rows, columns], [columns, 1])
    }

    /// The matrix in a tensor of two dimensions.
    pub fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        let (shape, strides) = (layout.shape(), layout.strides());
        let stride = |dim: usize| usize::try_from(strides[dim]).expect("the tensor is not flipped");
        let buffer = &tensor.storage::<f32>()[layout.start_offset()..];
        Self::new(buffer, [shape[0], shape[1]], [stride(0), stride(1)])
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

    /// `count` columns from `first` on.
    pub fn columns(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.columns, "columns {first}.. of {}", self.columns);
        Self { buffer: &self.buffer[first * self.column_stride..], columns: count, ..self }
    }

    /// Row `row`, of a matrix whose rows are contiguous.
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert_eq!(self.column_stride, 1, "the rows of this matrix are not contiguous");
        &self.buffer[row * self.row_stride..row * self.row_stride + self.columns]
    }
}

/// What happens to what the destination holds.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Destination {
    /// It is replaced.
    Replace,
    /// The product is added to it.
    Add,
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Threads {
    /// The caller alone.
    One,
    /// The whole pool.
    All,
}

/// `destination (+)= scale * a b`; `destination` is row-major with rows `row_stride` apart.
///
/// # Panics
/// If the shapes do not fit each other or the destination.
pub(super) fn product(
    destination: &mut [f32],
    row_stride: usize,
    mode: Destination,
    scale: f32,
    a: View<'_>,
    b: View<'_>,
    threads: Threads,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "a {m} x {k} matrix times one of {} rows", b.rows);
    if m == 0 || n == 0 {
        return;
    }
    assert!(row_stride >= n && (m - 1) * row_stride + n <= destination.len(), "{m} x {n} does not fit");
    if k == 0 {
        if mode == Destination::Replace {
            destination.chunks_mut(row_stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: `View::new` and the assertion above hold every element of the three matrices within its
    // buffer, and `destination` is borrowed exclusively.
    #[allow(unsafe_code, reason = "gemm takes pointers and strides")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            destination.as_mut_ptr(),
            1,
            row_stride as isize,
            mode == Destination::Add,
            a.buffer.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.buffer.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
