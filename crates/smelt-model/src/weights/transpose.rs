//! Turning matrices on the host, for families whose files hold `[in, out]`.

/// Side of the square that is turned at a time; two of them fit the first-level cache.
const TILE: usize = 32;

/// `values` `[rows, columns]` as `[columns, rows]`, both row-major.
///
/// # Panics
/// If there are more or fewer values.
pub fn transposed<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    assert_eq!(values.len(), rows * columns, "values of a {rows} x {columns} matrix");
    let mut turned = vec![T::default(); values.len()];
    for row_tile in (0..rows).step_by(TILE) {
        for column_tile in (0..columns).step_by(TILE) {
            for row in row_tile..rows.min(row_tile + TILE) {
                for column in column_tile..columns.min(column_tile + TILE) {
                    turned[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_moves_to_its_mirrored_place() {
        let (rows, columns) = (70, 33);
        let values: Vec<f32> = (0..rows * columns).map(|index| index as f32).collect();
        let turned = transposed(&values, rows, columns);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(turned[column * rows + row], values[row * columns + column]);
            }
        }
        assert_eq!(transposed(&turned, columns, rows), values);
    }
}
