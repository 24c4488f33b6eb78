//! The dtypes of files: their values on the host, and their names elsewhere. The one place that converts.

use burn::tensor::DType;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::error::ModelError;

/// Dtypes of weights as burn and as transformers name them.
const NAMES: [(Dtype, DType, &str); 3] = [
    (Dtype::F32, DType::F32, "float32"),
    (Dtype::BF16, DType::BF16, "bfloat16"),
    (Dtype::F16, DType::F16, "float16"),
];

/// burn's name for a dtype that weights are held in.
pub(super) fn held_dtype(dtype: Dtype) -> Option<DType> {
    NAMES.iter().find(|(file, ..)| *file == dtype).map(|(_, held, _)| *held)
}

/// The dtype of a file for what is held in `dtype`: f32 for all that is no dtype of weights.
pub fn file_dtype(dtype: DType) -> Dtype {
    NAMES.iter().find(|(_, held, _)| *held == dtype).map_or(Dtype::F32, |(file, ..)| *file)
}

/// What transformers calls a dtype of weights.
pub(crate) fn dtype_name(dtype: Dtype) -> Option<&'static str> {
    NAMES.iter().find(|(file, ..)| *file == dtype).map(|(.., name)| *name)
}

/// The dtype of weights that transformers calls `name`.
pub(super) fn dtype_named(name: &str) -> Option<Dtype> {
    NAMES.iter().find(|(.., own)| *own == name).map(|(file, ..)| *file)
}

/// Dtypes that can be read as f32.
const READABLE: &str = "F32, F16, BF16 or F64";

/// Values of `bytes` as f32; exact but for F64, which is rounded.
pub(super) fn to_f32(name: &str, dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, ModelError> {
    Ok(match dtype {
        Dtype::F32 => elements(bytes, f32::from_le_bytes),
        Dtype::F16 => elements(bytes, |raw| f16::from_le_bytes(raw).to_f32()),
        Dtype::BF16 => elements(bytes, |raw| bf16::from_le_bytes(raw).to_f32()),
        Dtype::F64 => elements(bytes, |raw| f64::from_le_bytes(raw) as f32),
        _ => {
            return Err(ModelError::BadDtype {
                name: name.to_owned(),
                found: dtype.to_string(),
                expected: READABLE,
            });
        }
    })
}

/// Values of `bytes` as i64.
pub(super) fn to_i64(name: &str, dtype: Dtype, bytes: &[u8]) -> Result<Vec<i64>, ModelError> {
    Ok(match dtype {
        Dtype::I64 => elements(bytes, i64::from_le_bytes),
        Dtype::I32 => elements(bytes, |raw| i32::from_le_bytes(raw).into()),
        Dtype::U32 => elements(bytes, |raw| u32::from_le_bytes(raw).into()),
        Dtype::U16 => elements(bytes, |raw| u16::from_le_bytes(raw).into()),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|byte| i64::from(*byte)).collect(),
        _ => {
            return Err(ModelError::BadDtype {
                name: name.to_owned(),
                found: dtype.to_string(),
                expected: "I64, I32, U32, U16, U8 or BOOL",
            });
        }
    })
}

/// The little-endian bytes of `values` as `dtype`, each rounded to the nearest.
///
/// # Panics
/// For a dtype that is not F32, F16 or BF16.
pub fn float_bytes(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => f32_bytes(values),
        Dtype::F16 => bytes(values, |value| f16::from_f32(value).to_le_bytes()),
        Dtype::BF16 => bytes(values, |value| bf16::from_f32(value).to_le_bytes()),
        other => panic!("{other} is no dtype of weights"),
    }
}

/// Rounds each value to the nearest of `dtype`.
pub fn round_to(values: &mut [f32], dtype: DType) {
    match dtype {
        DType::F16 => values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32()),
        DType::BF16 => values.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32()),
        _ => {}
    }
}

/// The little-endian bytes of `values`, as files hold them.
pub(super) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    bytes(values, f32::to_le_bytes)
}

/// The little-endian bytes of `values`, as files hold them.
pub(super) fn i64_bytes(values: &[i64]) -> Vec<u8> {
    bytes(values, i64::to_le_bytes)
}

/// Fills a buffer of known size, which compiles to one copy where `convert` is free.
fn bytes<const N: usize, T: Copy>(values: &[T], convert: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; N * values.len()];
    for (slot, value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *slot = convert(*value);
    }
    bytes
}

/// Values of a part that one core converts; smaller tensors are not divided.
const PART: usize = 1 << 18;

fn elements<const N: usize, T: Copy + Default + Send>(
    bytes: &[u8],
    convert: impl Fn([u8; N]) -> T + Sync,
) -> Vec<T> {
    let raw = bytes.as_chunks::<N>().0;
    let mut values = vec![T::default(); raw.len()];
    let fill = |(values, raw): (&mut [T], &[[u8; N]])| {
        values.iter_mut().zip(raw).for_each(|(value, raw)| *value = convert(*raw));
    };
    values.par_chunks_mut(PART).zip(raw.par_chunks(PART)).for_each(fill);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_values_are_exact_in_f32() {
        let raw: Vec<u8> =
            [1.5f32, -0.25, 65504.0].iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        assert_eq!(to_f32("x", Dtype::F16, &raw).unwrap(), [1.5, -0.25, 65504.0]);
        let raw: Vec<u8> =
            [1.5f32, -3.0e38].iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
        let expected = [1.5, bf16::from_f32(-3.0e38).to_f32()];
        assert_eq!(to_f32("x", Dtype::BF16, &raw).unwrap(), expected);
    }

    #[test]
    fn integer_tensors_are_no_weights() {
        let error = to_f32("x", Dtype::I32, &[0; 4]).unwrap_err();
        assert_eq!(error.to_string(), "tensor `x` has dtype I32, expected F32, F16, BF16 or F64");
    }
}
