//! Matrix products on strided views.
//!
//! Every number of a result is the same chain of multiply-adds along `k`, whatever the number of rows, columns
//! and threads: a row of a batch comes out as it does alone, and with AVX2, AVX-512 and NEON alike. Blocking
//! follows Goto and van de Geijn (2008, doi:10.1145/1356052.1356053); where rows are few, `b` is read once as it
//! lies.

mod bf16;
mod blocked;
mod columns;
mod leaves;
mod lines;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod stored;
mod tile;
mod vector;
mod view;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use bf16::product_of_bf16;
pub(super) use columns::Columns;
pub(super) use lines::Room;
pub(super) use stored::Stored;
pub(super) use vector::{Portable, Vector};
pub(super) use view::View;

use tile::Output;

/// Length of a chain of multiply-adds; sums of chains are added in order.
///
/// 256 rows of a tile's columns fit the first cache. It decides about the last bits of every product.
pub(super) const BLOCK_K: usize = 256;

/// What happens to what the destination holds.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Destination {
    /// It is replaced.
    Replace,
    /// The product is added to it.
    Add,
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Threads {
    /// The caller alone.
    One,
    /// All that look for work, and none that sleeps.
    Awake,
    /// All of them.
    All,
}

/// `a b`, row-major.
///
/// # Panics
/// If the shapes do not fit each other.
pub(super) fn multiplied<T: Stored>(a: View<'_>, b: View<'_, T>, threads: Threads) -> Vec<f32> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "a {m} x {k} matrix times one of {} rows", b.rows);
    if k == 0 {
        return vec![0.0; m * n];
    }
    let mut result = Vec::with_capacity(m * n);
    if m * n > 0 {
        let output = Output { to: result.as_mut_ptr(), row_stride: n, scale: 1.0, add: false };
        // SAFETY: the views vouch for `a` and `b`; the buffer has room for `m * n` numbers, all of which a product that
        // replaces what is there writes, and reads none of.
        #[allow(unsafe_code, reason = "zeros would be written for nothing")]
        unsafe {
            blocked::product(a, b, output, threads);
            result.set_len(m * n);
        }
    }
    result
}

/// `destination (+)= scale * a b`; `destination` is row-major with rows `row_stride` apart.
///
/// # Panics
/// If the shapes do not fit each other or the destination.
pub(super) fn product<T: Stored>(
    destination: &mut [f32],
    row_stride: usize,
    mode: Destination,
    scale: f32,
    a: View<'_>,
    b: View<'_, T>,
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
    let output = Output { to: destination.as_mut_ptr(), row_stride, scale, add: mode == Destination::Add };
    // SAFETY: `View::new` and the assertion above hold every element of the three matrices within its
    // buffer, and `destination` is borrowed exclusively.
    #[allow(unsafe_code, reason = "the loops take pointers and strides")]
    unsafe {
        blocked::product(a, b, output, threads);
    }
}
