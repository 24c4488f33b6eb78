//! The triangular root of the inverse of a matrix of second moments, on the host in f64.
//!
//! Sums have one order whatever the number of threads.

use rayon::prelude::*;

/// Added to the diagonal of the moments, as a share of its mean: they are often singular.
const DAMPING: f64 = 0.01;
/// Columns that are factored at a time: their rows stay in the cache while all rows pass by.
const PANEL: usize = 64;
/// Columns of an inverse that are solved at a time.
const COLUMNS: usize = 16;
/// Sums of a product that are kept apart.
const LANES: usize = 8;

/// The upper triangular `U`, row-major, with `U^T U` the inverse of the damped `moments` `[size, size]`.
///
/// The moments in reverse order are `L L^T` by Cholesky, so that in order they are `R R^T` with `R` upper triangular,
/// and `U` is the inverse of `R`.
pub(super) fn inverse_root(moments: &[f32], size: usize) -> Vec<f32> {
    let last = size - 1;
    let mean = (0..size).map(|at| f64::from(moments[at * size + at])).sum::<f64>() / size as f64;
    // Features that are always 0 do not matter, and must not divide by 0.
    let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    let mut lower = vec![0.0; size * size];
    lower.par_chunks_exact_mut(size).enumerate().for_each(|(row, values)| {
        for (column, value) in values[..=row].iter_mut().enumerate() {
            *value = f64::from(moments[(last - row) * size + last - column]);
        }
        values[row] += damping;
    });
    factor(&mut lower, size);
    let columns = inverse_columns(&lower, size);
    drop(lower);
    let mut upper = vec![0.0; size * size];
    upper.par_chunks_exact_mut(size).enumerate().for_each(|(row, values)| {
        for (column, value) in values.iter_mut().enumerate().skip(row) {
            *value = columns[(last - column) * size + last - row];
        }
    });
    upper
}

/// The lower triangle of a positive definite matrix, row-major, becomes its Cholesky factor.
fn factor(lower: &mut [f64], size: usize) {
    for start in (0..size).step_by(PANEL) {
        let width = PANEL.min(size - start);
        let (done, rest) = lower.split_at_mut(start * size);
        debug_assert_eq!(done.len(), start * size);
        // What is known of the rows of the panel.
        let known: Vec<f64> =
            rest[..width * size].chunks_exact(size).flat_map(|row| &row[..start]).copied().collect();
        rest.par_chunks_exact_mut(size).enumerate().for_each(|(at, row)| {
            let (own, row) = row.split_at_mut(start);
            for (column, value) in row[..width.min(at + 1)].iter_mut().enumerate() {
                *value -= dot(own, &known[column * start..][..start]);
            }
        });
        let (panel, below) = rest.split_at_mut(width * size);
        let panel = factor_panel(panel, size, start, width);
        below.par_chunks_exact_mut(size).for_each(|row| {
            let row = &mut row[start..start + width];
            for column in 0..width {
                let above = &panel[column * width..][..width];
                row[column] = (row[column] - dot(&row[..column], &above[..column])) / above[column];
            }
        });
    }
}

/// Factors the square of `rows` that begins at column `start`; returns it, row-major.
fn factor_panel(rows: &mut [f64], size: usize, start: usize, width: usize) -> Vec<f64> {
    let mut panel = vec![0.0; width * width];
    for row in 0..width {
        let values = &mut rows[row * size + start..][..width];
        let (above, own) = panel.split_at_mut(row * width);
        for column in 0..row {
            let other = &above[column * width..][..width];
            own[column] = (values[column] - dot(&own[..column], &other[..column])) / other[column];
        }
        own[row] = (values[row] - dot(&own[..row], &own[..row])).max(f64::MIN_POSITIVE).sqrt();
        values[..=row].copy_from_slice(&own[..=row]);
    }
    panel
}

/// The columns of the inverse of a lower triangular matrix, one after the other.
fn inverse_columns(lower: &[f64], size: usize) -> Vec<f32> {
    let mut columns = vec![0.0; size * size];
    columns.par_chunks_mut(COLUMNS * size).enumerate().for_each(|(chunk, columns)| {
        let start = chunk * COLUMNS;
        let mut solved = vec![0.0; columns.len()];
        for row in start..size {
            let own = &lower[row * size..][..=row];
            for (at, solved) in
                solved.chunks_exact_mut(size).enumerate().take_while(|(at, _)| start + at <= row)
            {
                let column = start + at;
                let unit = if row == column { 1.0 } else { 0.0 };
                solved[row] = (unit - dot(&own[column..row], &solved[column..row])) / own[row];
            }
        }
        columns.iter_mut().zip(solved).for_each(|(column, solved)| *column = solved as f32);
    });
    columns
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use smelt_testkit::numbers;

    use super::*;

    #[test]
    fn the_root_of_the_inverse_undoes_the_damped_moments() {
        for size in [1, 5, 64, 70, 161] {
            let rows = numbers(2 * size * size, 3);
            let mut moments = vec![0f32; size * size];
            for row in rows.chunks_exact(size) {
                for (sums, a) in moments.chunks_exact_mut(size).zip(row) {
                    sums.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b);
                }
            }
            let root = inverse_root(&moments, size);
            let mean = (0..size).map(|at| f64::from(moments[at * size + at])).sum::<f64>() / size as f64;
            for row in 0..size {
                for column in 0..size {
                    // Of U^T U times the damped moments.
                    let mut sum = 0.0;
                    for at in 0..size {
                        let inverse: f64 = (0..size)
                            .map(|k| f64::from(root[k * size + row]) * f64::from(root[k * size + at]))
                            .sum();
                        let damping = if at == column { DAMPING * mean } else { 0.0 };
                        sum += inverse * (f64::from(moments[at * size + column]) + damping);
                    }
                    let expected = if row == column { 1.0 } else { 0.0 };
                    assert!((sum - expected).abs() < 1e-4, "{size}: {row}, {column}: {sum}");
                    assert!(column >= row || root[row * size + column] == 0.0);
                }
            }
        }
    }
}
