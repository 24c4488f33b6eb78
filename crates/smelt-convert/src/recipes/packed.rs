//! Codes and scales as files hold them.

use burn::tensor::DType;
use bytes::Bytes;
use rayon::prelude::*;
use smelt_backend::kernels::quantized::{GroupScale, pack};
use smelt_backend::kernels::{QuantizationError, QuantizationFormat, QuantizedBytes};
use smelt_model::weights::{file_dtype, float_bytes};

/// A matrix `[out, features]` of `codes`, with `scales` that `dtype` holds as they are.
///
/// # Errors
/// [`QuantizationError`] if the shape does not fit the format, and for scales that are not finite.
pub(super) fn packed(
    codes: &[u8],
    scales: &[GroupScale],
    [out, features]: [usize; 2],
    format: QuantizationFormat,
    dtype: DType,
) -> Result<QuantizedBytes, QuantizationError> {
    let groups = format.groups(features)?;
    let finite = |group: &GroupScale| group.scale.is_finite() && group.bias.is_finite();
    if let Some(group) = scales.iter().position(|group| !finite(group)) {
        return Err(QuantizationError::NotFinite { row: group / groups, dtype });
    }
    let mut packed = vec![0; out * groups * format.group_bytes()];
    let codes = codes.par_chunks_exact(format.group_size());
    codes
        .zip(packed.par_chunks_exact_mut(format.group_bytes()))
        .for_each(|(codes, packed)| pack(codes, format, packed));
    let held = |part: fn(&GroupScale) -> f32| -> Bytes {
        float_bytes(file_dtype(dtype), &scales.iter().map(part).collect::<Vec<f32>>()).into()
    };
    let (scales, biases) = (held(|group| group.scale), held(|group| group.bias));
    Ok(QuantizedBytes { packed: packed.into(), scales, biases, dtype })
}
