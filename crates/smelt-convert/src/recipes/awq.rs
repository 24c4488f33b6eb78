//! AWQ (Lin et al. 2023, arXiv:2306.00978): columns of weights whose inputs are large are scaled up before they are
//! rounded, which what writes these inputs makes good; and the range of a group is cut where that costs less than it
//! gains.
//!
//! Works on matrices and the moments of what enters them; knows no model.

use burn::tensor::DType;
use rayon::prelude::*;
use smelt_backend::Kernels;
use smelt_backend::kernels::quantized::{GroupScale, dequantize, quantize, quantize_group};
use smelt_backend::kernels::{QuantizationError, QuantizationFormat, QuantizedBytes};
use smelt_model::calibration::InputMoments;

use super::energy::Energy;
use super::packed::packed;
use super::unrounded::Unrounded;

/// Exponents that are tried, from 0 on.
const RATIOS: usize = 20;
const SMALLEST_FACTOR: f64 = 1e-4;
/// Ranges of a group that are tried: all of it, then each time a twentieth less.
const RANGES: usize = 10;
const RANGE_STEP: f32 = 0.05;

/// Factors for the columns of all `readers`, whose inputs have `moments`: powers of the mean magnitudes of the inputs,
/// with the exponent that changes outputs least. `None` if that is 0.
///
/// # Errors
/// [`QuantizationError`] for values that are not finite.
pub(super) fn factors<B: Kernels>(
    readers: &[Unrounded],
    moments: &InputMoments,
    device: &B::Device,
) -> Result<Option<Vec<f32>>, QuantizationError> {
    let energy = Energy::<B>::new(moments, device);
    let error = |factors: &[f32]| -> Result<f64, QuantizationError> {
        readers.iter().map(|reader| Ok(energy.of(&scaled_change(reader, factors)?, reader.dims))).sum()
    };
    let mut best = (error(&vec![1.0; moments.magnitudes.len()])?, None);
    for step in 1..RATIOS {
        let factors = powers(moments, step as f64 / RATIOS as f64);
        let found = error(&factors)?;
        if found < best.0 {
            best = (found, Some(factors));
        }
    }
    Ok(best.1)
}

/// Mean magnitudes to the power of `ratio`, the largest and the smallest as far from 1.
fn powers(moments: &InputMoments, ratio: f64) -> Vec<f32> {
    let mean = |sum: &f64| (sum / moments.rows as f64).powf(ratio).max(SMALLEST_FACTOR);
    let powers: Vec<f64> = moments.magnitudes.iter().map(mean).collect();
    let largest = powers.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let smallest = powers.iter().copied().fold(f64::INFINITY, f64::min);
    powers.into_iter().map(|power| (power / (largest * smallest).sqrt()) as f32).collect()
}

/// What a matrix changes by if it is rounded while its columns are multiplied by `factors`.
fn scaled_change(matrix: &Unrounded, factors: &[f32]) -> Result<Vec<f32>, QuantizationError> {
    let Unrounded { values, dims, format, dtype } = matrix;
    let rows = values.chunks_exact(factors.len());
    let scaled = rows.clone().flat_map(|row| row.iter().zip(factors).map(|(value, factor)| value * factor));
    let bytes = quantize(&scaled.collect::<Vec<f32>>(), *dims, *format, *dtype)?;
    let mut change = dequantize(&bytes, *dims, *format)?;
    for (change, row) in change.chunks_exact_mut(factors.len()).zip(rows) {
        let values = change.iter_mut().zip(row.iter().zip(factors));
        values.for_each(|(found, (value, factor))| *found = *found / factor - value);
    }
    Ok(change)
}

/// `matrix` with each group in that range, of those tried, which changes the outputs of the group least.
///
/// `products` are the second moments of the inputs.
///
/// # Errors
/// [`QuantizationError`] if the shape does not fit the format, and for values that are not finite.
pub(super) fn clipped(matrix: &Unrounded, products: &[f32]) -> Result<QuantizedBytes, QuantizationError> {
    let Unrounded { values, dims, format, dtype } = matrix;
    let ([out, features], format, dtype) = (*dims, *format, *dtype);
    let (groups, size) = (format.groups(features)?, format.group_size());
    let mut codes = vec![0; values.len()];
    let mut scales = vec![GroupScale { scale: 0.0, bias: 0.0 }; out * groups];
    let work = codes.par_chunks_exact_mut(size).zip(scales.par_iter_mut()).zip(values.par_chunks_exact(size));
    work.enumerate().for_each(|(at, ((codes, scale), values))| {
        let start = at % groups * size;
        let rows = (start..start + size).map(|row| &products[row * features + start..][..size]);
        let rows: Vec<&[f32]> = rows.collect();
        *scale = best_range(values, &rows, format, dtype, codes);
    });
    packed(&codes, &scales, *dims, format, dtype)
}

/// Scale and codes of a group.
fn best_range(
    values: &[f32],
    products: &[&[f32]],
    format: QuantizationFormat,
    dtype: DType,
    codes: &mut [u8],
) -> GroupScale {
    let widest = values.iter().fold(0f32, |widest, value| widest.max(value.abs()));
    let mut best: Option<(f32, GroupScale)> = None;
    let (mut cut, mut tried, mut change) = (values.to_vec(), vec![0; values.len()], vec![0.0; values.len()]);
    for step in 0..RANGES {
        let most = widest * (1.0 - RANGE_STEP * step as f32);
        cut.iter_mut().zip(values).for_each(|(cut, value)| *cut = value.clamp(-most, most));
        let scale = quantize_group(&cut, format, &mut tried).rounded(dtype);
        let changes = change.iter_mut().zip(tried.iter().zip(values));
        changes.for_each(|(change, (code, value))| *change = scale.value(*code, dtype) - value);
        let along = |row: &[f32]| row.iter().zip(&change).map(|(a, b)| a * b).sum::<f32>();
        let error: f32 = products.iter().zip(&change).map(|(row, change)| along(row) * change).sum();
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, scale));
            codes.copy_from_slice(&tried);
        }
    }
    best.map(|(_, scale)| scale).expect("the whole range is tried")
}
