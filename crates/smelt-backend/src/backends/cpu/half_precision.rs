//! `linear` with a weight held in half precision: values become f32 in registers or in a small block, so that
//! the weight takes, and is read with, half the bytes.
//!
//! Products are computed in f32. Training in half precision rounds what enters them: `x`, which comes in the
//! weight's dtype then, and the gradient.

use std::borrow::Cow;

use burn::tensor::{DType, Element, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::matrix::{Destination, Threads, View, product};
use super::simd::vectorized;
use super::{contiguous, from_vec, values, wrap};
use crate::kernels::LinearGradients;

/// Up to this many rows of `x`, a weight's row is used as it is read; beyond, blocks become f32 first.
const DIRECT_ROWS: usize = 4;
/// Rows of the weight that become f32 at a time: few megabytes, and enough for a fast product.
const BLOCK_ROWS: usize = 512;
/// Outputs that one task computes.
const TASK_OUTPUTS: usize = 64;

/// A format that a weight may be held in.
trait Stored: Pod + Element + Send + Sync {
    /// `sum x * w`
    fn dot(x: &[f32], w: &[Self]) -> f32;
    /// `w` as f32.
    fn widen(w: &[Self], out: &mut [f32]);
    /// `x` rounded to the nearest.
    fn narrow(x: &[f32], out: &mut [Self]);
}

/// Lanes of a dot product: four vectors of 512 bits, to hide the latency of an addition.
const LANES: usize = 64;

/// `x w` in fixed lanes.
#[inline(always)]
fn dot_lanes<T: Copy>(x: &[f32], w: &[T], value: impl Fn(T) -> f32) -> f32 {
    let ((x_chunks, x_rest), (w_chunks, w_rest)) = (x.as_chunks::<LANES>(), w.as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (x, w) in x_chunks.iter().zip(w_chunks) {
        for (lane, (x, w)) in lanes.iter_mut().zip(x.iter().zip(w)) {
            *lane += x * value(*w);
        }
    }
    lanes.iter().sum::<f32>() + x_rest.iter().zip(w_rest).map(|(x, w)| x * value(*w)).sum::<f32>()
}

macro_rules! stored {
    ($ty:ty, $value:expr, $dot:ident, $widen:ident) => {
        vectorized! {
            fn $dot(x: &[f32], w: &[$ty]) -> f32 {
                dot_lanes(x, w, $value)
            }
        }
        vectorized! {
            fn $widen(w: &[$ty], out: &mut [f32]) {
                out.iter_mut().zip(w).for_each(|(out, w)| *out = $value(*w));
            }
        }
        impl Stored for $ty {
            fn dot(x: &[f32], w: &[Self]) -> f32 {
                $dot(x, w)
            }
            fn widen(w: &[Self], out: &mut [f32]) {
                $widen(w, out);
            }
            fn narrow(x: &[f32], out: &mut [Self]) {
                out.convert_from_f32_slice(x);
            }
        }
    };
}

stored!(bf16, |w: bf16| f32::from_bits(u32::from(w.to_bits()) << 16), dot_bf16, widen_bf16);
stored!(f16, f32_from_f16, dot_f16, widen_f16);

/// Exact for every finite f16, by moving its bits into an f32 and scaling; infinities and NaN stay what they are.
#[inline(always)]
fn f32_from_f16(w: f16) -> f32 {
    /// `2^112`: the difference between the exponents' biases.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(w.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * SCALE;
    let magnitude =
        if bits & 0x7c00 == 0x7c00 { (bits & 0x03ff) << 13 | 0x7f80_0000 } else { magnitude.to_bits() };
    f32::from_bits(magnitude | (bits & 0x8000) << 16)
}

/// `weight` is held in a format of this file.
pub(super) fn holds(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
}

/// `x` in a format of this file.
pub(super) fn narrowed(x: Tensor<Flex, 2>, dtype: DType) -> Tensor<Flex, 2> {
    let shape = x.dims();
    let x = contiguous(x);
    let data = match dtype {
        DType::BF16 => TensorData::new(narrow::<bf16>(values(&x)), shape),
        _ => TensorData::new(narrow::<f16>(values(&x)), shape),
    };
    wrap(FlexTensor::from_data(data))
}

/// `x weight^T + bias` for a weight that [`holds`] tells, and `x` in its format or in f32.
pub(super) fn forward(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 2>,
    bias: Option<Tensor<Flex, 1>>,
) -> Tensor<Flex, 2> {
    let ([rows, _], [outer, inner]) = (x.dims(), weight.dims());
    let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
    let (x, bias) = (as_f32(&x), bias.as_ref().map(values));
    let y = match weight.dtype() {
        DType::BF16 => outputs::<bf16>(&x, stored_values(&weight), bias, [rows, outer, inner]),
        _ => outputs::<f16>(&x, stored_values(&weight), bias, [rows, outer, inner]),
    };
    from_vec(y, [rows, outer])
}

/// Gradients of [`forward`], in f32; `x` in 16 bits has the gradient of the output rounded to its format.
pub(super) fn backward(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 2>,
    grad: Tensor<Flex, 2>,
    [need_x, need_weight, need_bias]: [bool; 3],
) -> LinearGradients<Flex> {
    let ([rows, _], [outer, inner]) = (grad.dims(), weight.dims());
    let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
    let bias = need_bias.then(|| super::linear::column_sums(values(&grad), outer));
    let rounded = match x.dtype() {
        DType::BF16 => Cow::Owned(widen(&narrow::<bf16>(values(&grad)))),
        DType::F16 => Cow::Owned(widen(&narrow::<f16>(values(&grad)))),
        _ => Cow::Borrowed(values(&grad)),
    };
    let upstream = View::dense(&rounded, rows, outer);
    let x_gradient = need_x.then(|| match weight.dtype() {
        DType::BF16 => downstream::<bf16>(upstream, stored_values(&weight), inner),
        _ => downstream::<f16>(upstream, stored_values(&weight), inner),
    });
    let weight_gradient = need_weight.then(|| {
        let (x, mut gradient) = (as_f32(&x), vec![0.0; outer * inner]);
        let (a, b) = (upstream.transposed(), View::dense(&x, rows, inner));
        product(&mut gradient, inner, Destination::Replace, 1.0, a, b, Threads::All);
        gradient
    });
    LinearGradients {
        x: x_gradient.map(|gradient| from_vec(gradient, [rows, inner])),
        weight: weight_gradient.map(|gradient| from_vec(gradient, [outer, inner])),
        bias,
    }
}

/// The values of a contiguous tensor in f32 or in a format of this file.
fn as_f32(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.dtype() {
        DType::BF16 => Cow::Owned(widen::<bf16>(stored_values(tensor))),
        DType::F16 => Cow::Owned(widen::<f16>(stored_values(tensor))),
        _ => Cow::Borrowed(values(tensor)),
    }
}

/// Values that one task converts.
const TASK_VALUES: usize = 1 << 14;

fn widen<T: Stored>(stored: &[T]) -> Vec<f32> {
    let mut widened = vec![0.0; stored.len()];
    let tasks = widened.par_chunks_mut(TASK_VALUES).zip(stored.par_chunks(TASK_VALUES));
    tasks.for_each(|(out, w)| T::widen(w, out));
    widened
}

fn narrow<T: Stored>(values: &[f32]) -> Vec<T> {
    let mut narrowed = vec![T::zeroed(); values.len()];
    let tasks = narrowed.par_chunks_mut(TASK_VALUES).zip(values.par_chunks(TASK_VALUES));
    tasks.for_each(|(out, x)| T::narrow(x, out));
    narrowed
}

fn stored_values<T: Stored>(weight: &FlexTensor) -> &[T] {
    weight.as_slice().expect("the weight is contiguous and of its dtype")
}

fn outputs<T: Stored>(
    x: &[f32],
    weight: &[T],
    bias: Option<&[f32]>,
    [rows, outer, inner]: [usize; 3],
) -> Vec<f32> {
    if rows <= DIRECT_ROWS {
        return direct(x, weight, bias, [rows, outer, inner]);
    }
    let (mut y, mode) = match bias {
        Some(bias) => (bias.repeat(rows), Destination::Add),
        None => (vec![0.0; rows * outer], Destination::Replace),
    };
    let x = View::dense(x, rows, inner);
    for_each_block(weight, inner, |first, block| {
        product(&mut y[first..], outer, mode, 1.0, x, block.transposed(), Threads::All);
    });
    y
}

/// Reads each row of the weight once, for all rows of `x`.
fn direct<T: Stored>(
    x: &[f32],
    weight: &[T],
    bias: Option<&[f32]>,
    [rows, outer, inner]: [usize; 3],
) -> Vec<f32> {
    let mut by_output = vec![0f32; outer * rows];
    by_output.par_chunks_mut(TASK_OUTPUTS * rows).enumerate().for_each(|(task, outputs)| {
        let first = task * TASK_OUTPUTS;
        for (output, y) in outputs.chunks_exact_mut(rows).enumerate() {
            let w = &weight[(first + output) * inner..][..inner];
            let start = bias.map_or(0.0, |bias| bias[first + output]);
            y.iter_mut().zip(x.chunks_exact(inner)).for_each(|(y, x)| *y = start + T::dot(x, w));
        }
    });
    if rows == 1 {
        return by_output;
    }
    (0..rows)
        .flat_map(|row| (0..outer).map(move |output| (row, output)))
        .map(|(row, output)| by_output[output * rows + row])
        .collect()
}

/// `grad weight`
fn downstream<T: Stored>(grad: View<'_>, weight: &[T], inner: usize) -> Vec<f32> {
    let mut x = vec![0f32; grad.rows * inner];
    for_each_block(weight, inner, |first, block| {
        let part = grad.columns(first, block.rows);
        product(&mut x, inner, Destination::Add, 1.0, part, block, Threads::All);
    });
    x
}

/// Calls `each` with the first row and the values of every block of the weight, as f32.
fn for_each_block<T: Stored>(weight: &[T], inner: usize, mut each: impl FnMut(usize, View<'_>)) {
    let mut buffer = vec![0f32; BLOCK_ROWS.min(weight.len() / inner.max(1)) * inner];
    for (index, block) in weight.chunks(BLOCK_ROWS * inner).enumerate() {
        let widened = &mut buffer[..block.len()];
        let task = (TASK_OUTPUTS * inner).max(1);
        widened.par_chunks_mut(task).zip(block.par_chunks(task)).for_each(|(out, w)| T::widen(w, out));
        each(index * BLOCK_ROWS, View::dense(widened, block.len() / inner, inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_becomes_its_f32() {
        for bits in 0..=u16::MAX {
            let w = f16::from_bits(bits);
            let (found, expected) = (f32_from_f16(w), w.to_f32());
            assert!(
                found == expected || (found.is_nan() && expected.is_nan()),
                "{bits:#x}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn a_dot_product_counts_every_element() {
        let x: Vec<f32> = (0..131).map(|value| value as f32).collect();
        let w: Vec<bf16> = (0..131).map(|value| bf16::from_f32((value % 3) as f32)).collect();
        let expected: f32 = (0..131).map(|value| (value * (value % 3)) as f32).sum();
        assert_eq!(dot_bf16(&x, &w), expected);
    }
}
