//! Few queries of a head, as a decode step has: keys and values are read as they lie.
//!
//! Every number is what products of matrices give, to the last bit. What is left out is what those prepare for each
//! head: where sequences are short, it takes longer than the work.

#![allow(unsafe_code, reason = "registers, and memory given by pointers")]

use crate::backends::cpu::matrix::{BLOCK_K, CACHED_BYTES, Vector, View, at_level, for_count};

/// Most queries that are taken at a time.
const MOST_QUERIES: usize = 8;
/// Lanes of the widest registers.
const MOST_LANES: usize = 16;

/// Whether these queries are few, and their features fill registers and make one chain.
pub(super) fn takes(q: View<'_>) -> bool {
    q.rows <= MOST_QUERIES && q.columns.is_multiple_of(MOST_LANES) && q.columns <= BLOCK_K
}

/// Distance of two queries' scores for `width` keys: whole registers are written.
pub(super) fn stride(width: usize) -> usize {
    width.next_multiple_of(MOST_LANES)
}

/// `scale q k^T`, rows [`stride`] apart, of which the rest holds nothing of use. Rows of `q` and `k` are contiguous.
///
/// # Panics
/// If the shapes do not fit each other, or are not what [`takes`] asks for.
pub(super) fn scores(to: &mut [f32], scale: f32, q: View<'_>, k: View<'_>) {
    let stride = stride(k.rows);
    assert!(takes(q) && q.columns == k.columns, "{} features of queries, {} of keys", q.columns, k.columns);
    assert!(q.rows * stride <= to.len(), "{} x {stride} scores in {}", q.rows, to.len());
    let (q, k) = (Rows::of(q), Rows::of(k));
    // SAFETY: the views vouch for `q` and `k`, whose rows are whole registers, and there is room for the scores.
    unsafe { scores_at_level(Scores { to: to.as_mut_ptr(), stride, scale }, q, k) }
}

/// `p v` for the weights `p`, which lie as [`scores`] wrote them; rows of `v` are contiguous, those of the output
/// `output_stride` apart.
///
/// # Panics
/// If the shapes do not fit each other, or are not what [`takes`] asks for.
pub(super) fn mix((output, output_stride): (&mut [f32], usize), rows: usize, p: &[f32], v: View<'_>) {
    let (stride, width) = (stride(v.rows), v.columns);
    assert!(rows <= MOST_QUERIES && width.is_multiple_of(MOST_LANES), "{rows} queries of {width} features");
    assert!(0 < rows && rows * stride <= p.len(), "{rows} x {stride} weights in {}", p.len());
    assert!(output_stride >= width && (rows - 1) * output_stride + width <= output.len(), "{rows} x {width}");
    let p = Rows { from: p.as_ptr(), stride, count: rows, length: v.rows };
    // SAFETY: the view vouches for `v`, whose rows are whole registers, and the assertions for `p` and the output.
    unsafe { mix_at_level(output.as_mut_ptr(), output_stride, p, Rows::of(v)) }
}

/// Contiguous rows of `length` numbers, `stride` apart.
#[derive(Clone, Copy)]
struct Rows {
    from: *const f32,
    stride: usize,
    count: usize,
    length: usize,
}

impl Rows {
    fn of(view: View<'_>) -> Self {
        let (from, [stride, step]) = view.parts();
        assert_eq!(step, 1, "the rows of this matrix are not contiguous");
        Self { from, stride, count: view.rows, length: view.columns }
    }
}

/// Where scores go.
#[derive(Clone, Copy)]
struct Scores {
    to: *mut f32,
    stride: usize,
    scale: f32,
}

at_level! {
    /// # Safety
    /// Rows of `q`, up to [`MOST_QUERIES`], and of `k` are whole registers, and the scores have room for as many as
    /// hold one number of each row of `k`.
    fn scores_at_level(to: Scores, q: Rows, k: Rows) = all_scores
}

at_level! {
    /// # Safety
    /// Rows of `v` are whole registers, of which those of `p`, up to [`MOST_QUERIES`], hold a weight each; the output
    /// has room for them all.
    fn mix_at_level(output: *mut f32, output_stride: usize, p: Rows, v: Rows) = all_mixed
}

#[inline(always)]
unsafe fn all_scores<V: Vector<LANES>, const LANES: usize>(to: Scores, q: Rows, k: Rows) {
    // SAFETY: the caller's promise.
    unsafe { for_count!(q.count, [1 2 3 4 5 6 7 8], R => scores_of::<V, LANES, R>(to, q, k)) }
}

/// The scores of `R` queries: squares of keys are transposed, so that each score is one chain along the features.
///
/// # Safety
/// That of [`scores_at_level`].
#[inline(always)]
unsafe fn scores_of<V: Vector<LANES>, const LANES: usize, const R: usize>(to: Scores, q: Rows, k: Rows) {
    // SAFETY: the caller's promise; rows beyond the last are read as the last one.
    unsafe {
        // What the first cache holds need not be fetched.
        let ahead = (k.count * k.length * size_of::<f32>() > CACHED_BYTES).then_some(LANES * k.stride);
        for first in (0..k.count).step_by(LANES) {
            let rows = Rows { from: k.from.add(first * k.stride), count: k.count - first, ..k };
            let mut sums = [V::zero(); R];
            for at in (0..k.length).step_by(LANES) {
                let square = Rows { from: rows.from.add(at), ..rows };
                let columns = match rows.count < LANES {
                    true => columns_of::<V, LANES, false>(square, ahead),
                    false => columns_of::<V, LANES, true>(square, ahead),
                };
                for (lane, column) in columns.iter().enumerate() {
                    for (query, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.mul_add(V::splat(q.from.add(query * q.stride + at + lane)), *column);
                    }
                }
            }
            for (query, sum) in sums.iter().enumerate() {
                sum.mul(V::splat(&to.scale)).store(to.to.add(query * to.stride + first));
            }
        }
    }
}

/// The columns of a square of `LANES` rows, `WHOLE` if they are all there; those `ahead` of them are fetched.
///
/// # Safety
/// As [`Vector`] says; there is a row, and rows are registers.
#[inline(always)]
unsafe fn columns_of<V: Vector<LANES>, const LANES: usize, const WHOLE: bool>(
    rows: Rows,
    ahead: Option<usize>,
) -> [V; LANES] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut lines = [V::zero(); LANES];
        let mut row = rows.from;
        for (lane, line) in lines.iter_mut().enumerate() {
            *line = V::load(row);
            if let Some(ahead) = ahead {
                V::prefetch(row.wrapping_add(ahead).cast());
            }
            if WHOLE || lane + 1 < rows.count {
                row = row.wrapping_add(rows.stride);
            }
        }
        V::transposed(lines)
    }
}

#[inline(always)]
unsafe fn all_mixed<V: Vector<LANES>, const LANES: usize>(
    output: *mut f32,
    output_stride: usize,
    p: Rows,
    v: Rows,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_count!(p.count, [1 2 3 4 5 6 7 8], R => mixed_of::<V, LANES, R>(output, output_stride, p, v))
    }
}

/// Four registers of features at a time for as long as there are, or two where rows leave no room for that.
///
/// # Safety
/// That of [`mix_at_level`].
#[inline(always)]
unsafe fn mixed_of<V: Vector<LANES>, const LANES: usize, const R: usize>(
    output: *mut f32,
    output_stride: usize,
    p: Rows,
    v: Rows,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut column = 0;
        while column < v.length {
            let to = output.add(column);
            let v = Rows { from: v.from.add(column), length: v.length - column, ..v };
            column += LANES
                * match v.length / LANES {
                    4.. if 4 * R <= LANES => mixed::<V, LANES, R, 4>(to, output_stride, p, v),
                    2.. => mixed::<V, LANES, R, 2>(to, output_stride, p, v),
                    _ => mixed::<V, LANES, R, 1>(to, output_stride, p, v),
                };
        }
    }
}

/// `C` registers of features of `R` queries: chains of [`BLOCK_K`] along the keys, added in order. Returns `C`.
///
/// # Safety
/// That of [`mix_at_level`].
#[inline(always)]
unsafe fn mixed<V: Vector<LANES>, const LANES: usize, const R: usize, const C: usize>(
    output: *mut f32,
    output_stride: usize,
    p: Rows,
    v: Rows,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        for start in (0..v.count).step_by(BLOCK_K) {
            let mut sums = [[V::zero(); C]; R];
            for at in start..v.count.min(start + BLOCK_K) {
                let row = v.from.add(at * v.stride);
                let mut lines = [V::zero(); C];
                for (column, line) in lines.iter_mut().enumerate() {
                    *line = V::load(row.add(column * LANES));
                }
                for (query, sums) in sums.iter_mut().enumerate() {
                    let weight = V::splat(p.from.add(query * p.stride + at));
                    for (sum, line) in sums.iter_mut().zip(lines) {
                        *sum = sum.mul_add(weight, line);
                    }
                }
            }
            for (query, sums) in sums.iter().enumerate() {
                for (column, sum) in sums.iter().enumerate() {
                    let to = output.add(query * output_stride + column * LANES);
                    let sum = if start > 0 { V::load(to).add(*sum) } else { *sum };
                    sum.store(to);
                }
            }
        }
    }
    C
}
