//! From numbers to codes and back, on the host: rounding to the nearest value, as `mlx.core.quantize` does it.

use burn::tensor::DType;
use bytes::Bytes;
use half::{bf16, f16};
use rayon::prelude::*;

use super::format::holds_scales;
use super::weight::check_bytes;
use super::{QuantizationError, QuantizationFormat, QuantizedBytes, pack, unpack};

/// Scale and bias of a group: code `q` stands for `scale q + bias`, computed in the format that they are held in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupScale {
    /// May be negative.
    pub scale: f32,
    /// What code 0 stands for.
    pub bias: f32,
}

impl GroupScale {
    /// Scale and bias for `values`, as MLX chooses them.
    ///
    /// The value that lies farthest from 0 is hit exactly, and becomes code 0; 0 is hit nearly always.
    pub fn of(values: &[f32], format: QuantizationFormat) -> Self {
        let start = (f32::INFINITY, f32::NEG_INFINITY);
        let (min, max) = values.iter().fold(start, |(min, max), value| {
            (if *value < min { *value } else { min }, if max < *value { *value } else { max })
        });
        let spread = ((max - min) / f32::from(format.largest_code())).max(1e-7);
        let (scale, edge) = if min.abs() > max.abs() { (spread, min) } else { (-spread, max) };
        let steps = (edge / scale).round_ties_even();
        if steps == 0.0 { Self { scale, bias: 0.0 } } else { Self { scale: edge / steps, bias: edge } }
    }

    /// The code whose value is nearest.
    pub fn code(self, value: f32, format: QuantizationFormat) -> u8 {
        let steps = ((value - self.bias) / self.scale).round_ties_even();
        steps.clamp(0.0, f32::from(format.largest_code())) as u8
    }

    /// What a code stands for, where scale and bias are held in `dtype`.
    ///
    /// In 16 bits both the product and the sum are rounded to it: such are the values of MLX, and of whoever expands
    /// a weight in the model's own format. Left in f32 they would be others by up to half a unit in the last place,
    /// which shows in the second digit of logits.
    ///
    /// # Panics
    /// If `dtype` is none that scales are held in.
    pub fn value(self, code: u8, dtype: DType) -> f32 {
        round_to(dtype, round_to(dtype, self.scale * f32::from(code)) + self.bias)
    }

    /// As it can be held in `dtype`, each of both rounded to the nearest.
    ///
    /// # Panics
    /// If `dtype` is none that scales are held in.
    pub fn rounded(self, dtype: DType) -> Self {
        Self { scale: round_to(dtype, self.scale), bias: round_to(dtype, self.bias) }
    }
}

/// The number of `dtype` that is nearest to `value`.
fn round_to(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::F32 => value,
        DType::F16 => f16::from_f32(value).to_f32(),
        DType::BF16 => bf16::from_f32(value).to_f32(),
        _ => panic!("scales are never in {dtype:?}"),
    }
}

/// Codes of a group of `values`, by the scale and bias that [`GroupScale::of`] chooses.
///
/// Codes are those of the scale before it is rounded to the format that it is held in, as MLX's are.
pub fn quantize_group(values: &[f32], format: QuantizationFormat, codes: &mut [u8]) -> GroupScale {
    let group = GroupScale::of(values, format);
    codes.iter_mut().zip(values).for_each(|(code, value)| *code = group.code(*value, format));
    group
}

/// `values` `[out, features]` in `format`, with scales and biases in `dtype`: bit for bit what `mlx.core.quantize`
/// makes of values in `dtype`.
///
/// # Errors
/// [`QuantizationError`] if the shape does not fit the format or the values, and for values that are not finite.
pub fn quantize(
    values: &[f32],
    [out, features]: [usize; 2],
    format: QuantizationFormat,
    dtype: DType,
) -> Result<QuantizedBytes, QuantizationError> {
    let groups = format.groups(features)?;
    if out.checked_mul(features) != Some(values.len()) {
        return Err(QuantizationError::Values { out, features, found: values.len() });
    }
    if !holds_scales(dtype) {
        return Err(QuantizationError::ScaleDtype { found: dtype });
    }
    let mut packed = vec![0; out * groups * format.group_bytes()];
    let mut scales = vec![GroupScale { scale: 0.0, bias: 0.0 }; out * groups];
    let work = packed.par_chunks_exact_mut(groups * format.group_bytes());
    let work = work.zip(scales.par_chunks_exact_mut(groups)).zip(values.par_chunks_exact(features));
    work.enumerate().try_for_each(|(row, ((packed, scales), values))| {
        let mut codes = [0; 128];
        let codes = &mut codes[..format.group_size()];
        let packed = packed.chunks_exact_mut(format.group_bytes());
        for ((packed, scale), values) in packed.zip(scales).zip(values.chunks_exact(format.group_size())) {
            *scale = quantize_group(values, format, codes).rounded(dtype);
            let finite = scale.scale.is_finite() && scale.bias.is_finite();
            if !finite || !values.iter().all(|value| value.is_finite()) {
                return Err(QuantizationError::NotFinite { row, dtype });
            }
            pack(codes, format, packed);
        }
        Ok(())
    })?;
    Ok(QuantizedBytes {
        packed: packed.into(),
        scales: held(scales.iter().map(|group| group.scale), dtype),
        biases: held(scales.iter().map(|group| group.bias), dtype),
        dtype,
    })
}

/// What the codes of a weight `[out, features]` stand for, row by row, in f32.
///
/// # Errors
/// [`QuantizationError`] if the bytes do not fit the shape.
pub fn dequantize(
    weight: &QuantizedBytes,
    [out, features]: [usize; 2],
    format: QuantizationFormat,
) -> Result<Vec<f32>, QuantizationError> {
    let groups = check_bytes(weight, [out, features], format)?;
    let (scales, biases) = (floats(&weight.scales, weight.dtype), floats(&weight.biases, weight.dtype));
    let mut values = vec![0.0; out * features];
    let work = values.par_chunks_exact_mut(features);
    let work = work.zip(weight.packed.par_chunks_exact(groups * format.group_bytes()));
    work.zip(scales.par_chunks_exact(groups).zip(biases.par_chunks_exact(groups))).for_each(
        |((values, packed), (scales, biases))| {
            let mut codes = [0; 128];
            let codes = &mut codes[..format.group_size()];
            let values = values.chunks_exact_mut(format.group_size());
            let packed = packed.chunks_exact(format.group_bytes());
            for ((values, packed), (scale, bias)) in values.zip(packed).zip(scales.iter().zip(biases)) {
                unpack(packed, format, codes);
                let group = GroupScale { scale: *scale, bias: *bias };
                let value = |code: u8| group.value(code, weight.dtype);
                values.iter_mut().zip(&*codes).for_each(|(slot, code)| *slot = value(*code));
            }
        },
    );
    Ok(values)
}

/// `values` in the bytes of `dtype`, each rounded to the nearest.
fn held(values: impl Iterator<Item = f32>, dtype: DType) -> Bytes {
    let bytes: Vec<u8> = match dtype {
        DType::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        DType::BF16 => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    };
    bytes.into()
}

/// The numbers in the bytes of `dtype`.
fn floats(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::F16 => bytes.as_chunks().0.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect(),
        DType::BF16 => bytes.as_chunks().0.iter().map(|pair| bf16::from_le_bytes(*pair).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
    }
}
