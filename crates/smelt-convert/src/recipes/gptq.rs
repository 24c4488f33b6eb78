//! GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns are rounded one after the other, and what rounding one of
//! them changes in the output is made good by those that are still to come.
//!
//! Works on one matrix and the second moments of what enters it; knows no model.

use burn::tensor::DType;
use rayon::prelude::*;
use smelt_backend::kernels::quantized::GroupScale;
use smelt_backend::kernels::{QuantizationError, QuantizationFormat, QuantizedBytes};

use super::packed::packed;
use super::unrounded::Unrounded;

/// Rows that share a pass over the inverse.
const ROWS: usize = 16;

/// `matrix` rounded so that products with certain inputs change as little as this method can make them: `inverse` is
/// the [`inverse_root`](super::inverse::inverse_root) of their second moments.
///
/// The scales of a group are chosen when its first column is reached, as MLX chooses them.
///
/// # Errors
/// [`QuantizationError`] if the shape does not fit the format, and for values that are not finite.
///
/// # Panics
/// If there are other numbers of values than the shape says.
pub(super) fn gptq(matrix: &Unrounded, inverse: &[f32]) -> Result<QuantizedBytes, QuantizationError> {
    let Unrounded { values, dims, format, dtype } = matrix;
    let ([out, features], format, dtype) = (*dims, *format, *dtype);
    assert_eq!((values.len(), inverse.len()), (out * features, features * features), "values, moments");
    let groups = format.groups(features)?;
    let mut codes = vec![0; values.len()];
    let mut scales = vec![GroupScale { scale: 0.0, bias: 0.0 }; out * groups];
    let work = codes.par_chunks_mut(ROWS * features).zip(scales.par_chunks_mut(ROWS * groups));
    work.zip(values.par_chunks(ROWS * features)).for_each(|((codes, scales), values)| {
        Rounding { features, inverse, format, dtype }.run(values, codes, scales);
    });
    packed(&codes, &scales, *dims, format, dtype)
}

/// What the rounding of all rows shares.
struct Rounding<'a> {
    features: usize,
    /// The upper triangular root of the inverse moments.
    inverse: &'a [f32],
    format: QuantizationFormat,
    dtype: DType,
}

impl Rounding<'_> {
    /// Codes and scales of some rows.
    fn run(&self, values: &[f32], codes: &mut [u8], scales: &mut [GroupScale]) {
        let Self { features, format, dtype, .. } = *self;
        let (group_size, groups) = (format.group_size(), features / format.group_size());
        let mut left = values.to_vec();
        for column in 0..features {
            let factors = &self.inverse[column * features..][..features];
            for (row, left) in left.chunks_exact_mut(features).enumerate() {
                let scale = &mut scales[row * groups + column / group_size];
                if column.is_multiple_of(group_size) {
                    *scale = GroupScale::of(&left[column..column + group_size], format).rounded(dtype);
                }
                let code = scale.code(left[column], format);
                codes[row * features + column] = code;
                let error = (left[column] - scale.value(code, dtype)) / factors[column];
                let rest = left[column + 1..].iter_mut().zip(&factors[column + 1..]);
                rest.for_each(|(value, factor)| *value -= error * factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smelt_backend::kernels::quantized::{dequantize, quantize};
    use smelt_testkit::numbers;

    use super::super::inverse::inverse_root;
    use super::*;

    const SHAPE: [usize; 2] = [40, 128];

    fn matrix(format: QuantizationFormat, dtype: DType) -> Unrounded {
        Unrounded { values: numbers(SHAPE[0] * SHAPE[1], 7), dims: SHAPE, format, dtype }
    }

    /// Inputs in which some features follow others, as in real models, and their moments.
    fn inputs(rows: usize, seed: u32) -> (Vec<f32>, Vec<f32>) {
        let [_, features] = SHAPE;
        let (mixing, noise) = (numbers(8 * features, 3), numbers(rows * 8, seed));
        let own = numbers(rows * features, seed + 1);
        let mut x = vec![0f32; rows * features];
        for (row, x) in x.chunks_exact_mut(features).enumerate() {
            for (feature, x) in x.iter_mut().enumerate() {
                let shared: f32 =
                    (0..8).map(|at| noise[row * 8 + at] * mixing[at * features + feature]).sum();
                *x = shared + 0.2 * own[row * features + feature];
            }
        }
        let mut products = vec![0f32; features * features];
        for x in x.chunks_exact(features) {
            for (row, a) in products.chunks_exact_mut(features).zip(x) {
                row.iter_mut().zip(x).for_each(|(sum, b)| *sum += a * b);
            }
        }
        (x, products)
    }

    /// Sum of squares of what the outputs of `x` change.
    fn output_error(found: &QuantizedBytes, values: &[f32], x: &[f32], format: QuantizationFormat) -> f64 {
        let [_, features] = SHAPE;
        let found = dequantize(found, SHAPE, format).unwrap();
        let mut sum = 0.0;
        for x in x.chunks_exact(features) {
            for (found, values) in found.chunks_exact(features).zip(values.chunks_exact(features)) {
                let change: f32 = found.iter().zip(values).zip(x).map(|((a, b), x)| (a - b) * x).sum();
                sum += f64::from(change * change);
            }
        }
        sum
    }

    #[test]
    fn outputs_of_inputs_that_were_not_seen_change_less_than_by_rounding_to_the_nearest() {
        let values = numbers(SHAPE[0] * SHAPE[1], 7);
        let ((_, products), (unseen, _)) = (inputs(512, 11), inputs(200, 91));
        for (bits, dtype) in [(2, DType::F32), (3, DType::F16), (4, DType::BF16), (6, DType::F32)] {
            let format = QuantizationFormat::new(bits, 64).unwrap();
            let calibrated = gptq(&matrix(format, dtype), &inverse_root(&products, SHAPE[1])).unwrap();
            let nearest = quantize(&values, SHAPE, format, dtype).unwrap();
            let [calibrated, nearest] =
                [calibrated, nearest].map(|found| output_error(&found, &values, &unseen, format));
            assert!(calibrated < 0.6 * nearest, "{bits} bits: {calibrated:.3} against {nearest:.3}");
        }
    }

    #[test]
    fn inputs_that_are_never_there_do_not_matter() {
        let values = numbers(SHAPE[0] * SHAPE[1], 7);
        let format = QuantizationFormat::new(4, 32).unwrap();
        let nothing = vec![0.0; SHAPE[1] * SHAPE[1]];
        let found = gptq(&matrix(format, DType::F32), &inverse_root(&nothing, SHAPE[1])).unwrap();
        let nearest =
            dequantize(&quantize(&values, SHAPE, format, DType::F32).unwrap(), SHAPE, format).unwrap();
        assert_eq!(dequantize(&found, SHAPE, format).unwrap(), nearest);
    }

    /// The optimal brain surgeon's own words: the inverse of the moments of the columns that are left is worked out anew
    /// for each column, by elimination, in f64.
    #[test]
    fn codes_are_those_of_the_optimal_brain_surgeon() {
        let ([_, features], format) = (SHAPE, QuantizationFormat::new(3, 32).unwrap());
        let values = numbers(SHAPE[0] * features, 7);
        let (_, products) = inputs(300, 11);
        let found = gptq(&matrix(format, DType::F32), &inverse_root(&products, features)).unwrap();
        let mean =
            (0..features).map(|at| f64::from(products[at * features + at])).sum::<f64>() / features as f64;
        let mut moments: Vec<f64> = products.iter().map(|value| f64::from(*value)).collect();
        (0..features).for_each(|at| moments[at * features + at] += 0.01 * mean);
        let expected = brain_surgeon(&values, &moments, format);
        let found = dequantize(&found, SHAPE, format).unwrap();
        let differing = found.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
        assert_eq!(differing, 0, "of {} values", found.len());
    }

    fn brain_surgeon(values: &[f32], moments: &[f64], format: QuantizationFormat) -> Vec<f32> {
        let [out, features] = SHAPE;
        let mut left: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        let mut scales = vec![GroupScale { scale: 0.0, bias: 0.0 }; out];
        let mut rounded = vec![0.0; values.len()];
        for column in 0..features {
            let inverse = inverse_of_rest(moments, column);
            for row in 0..out {
                let own = &mut left[row * features..][..features];
                if column % format.group_size() == 0 {
                    let group: Vec<f32> =
                        own[column..column + format.group_size()].iter().map(|value| *value as f32).collect();
                    scales[row] = GroupScale::of(&group, format);
                }
                let value = scales[row].value(scales[row].code(own[column] as f32, format), DType::F32);
                rounded[row * features + column] = value;
                let error = (own[column] - f64::from(value)) / inverse[0];
                own[column..].iter_mut().zip(&inverse).for_each(|(value, factor)| *value -= error * factor);
            }
        }
        rounded
    }

    /// The first row of the inverse of the moments of the columns from `first` on: Gauss and Jordan's.
    fn inverse_of_rest(moments: &[f64], first: usize) -> Vec<f64> {
        let features = SHAPE[1];
        let size = features - first;
        let row = |row: usize| {
            let unit = (0..size).map(move |at| if at == row { 1.0 } else { 0.0 });
            moments[(first + row) * features + first..][..size].iter().copied().chain(unit).collect()
        };
        let mut rows: Vec<Vec<f64>> = (0..size).map(row).collect();
        for pivot in 0..size {
            let scale = rows[pivot][pivot];
            rows[pivot].iter_mut().for_each(|value| *value /= scale);
            let own = rows[pivot].clone();
            for (at, row) in rows.iter_mut().enumerate().filter(|(at, _)| *at != pivot) {
                let factor = if at == pivot { 0.0 } else { row[pivot] };
                row.iter_mut().zip(&own).for_each(|(value, own)| *value -= factor * own);
            }
        }
        rows[0][size..].to_vec()
    }
}
