//! `linear` with a weight held in half precision: products make its values f32 where they take them, so that the
//! weight takes, and is read with, half the bytes.
//!
//! Products are computed in f32. Training in half precision rounds what enters them: `x`, which comes in the
//! weight's dtype then, and the gradient.

use std::borrow::Cow;

use burn::tensor::{DType, Element, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::linear::start;
use super::matrix::{Destination, Stored, Threads, View, product};
use super::simd::vectorized;
use super::{contiguous, from_vec, team, values, wrap};
use crate::kernels::LinearGradients;

/// A format that a weight may be held in.
trait Half: Stored + Pod + Element {
    /// `w` as f32.
    fn widen(w: &[Self], out: &mut [f32]);
    /// `x` rounded to the nearest.
    fn narrow(x: &[f32], out: &mut [Self]);
}

macro_rules! half {
    ($ty:ty, $widen:ident) => {
        vectorized! {
            fn $widen(w: &[$ty], out: &mut [f32]) {
                out.iter_mut().zip(w).for_each(|(out, w)| *out = w.value());
            }
        }
        impl Half for $ty {
            fn widen(w: &[Self], out: &mut [f32]) {
                $widen(w, out);
            }
            fn narrow(x: &[f32], out: &mut [Self]) {
                out.convert_from_f32_slice(x);
            }
        }
    };
}

half!(bf16, widen_bf16);
half!(f16, widen_f16);

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
    let (x, weight) = (contiguous(x), contiguous(weight));
    let x = as_f32(&x);
    let (mut y, mode) = start(bias, [rows, outer]);
    let x = View::dense(&x, rows, inner);
    match weight.dtype() {
        DType::BF16 => outputs::<bf16>(&mut y, mode, x, &weight),
        _ => outputs::<f16>(&mut y, mode, x, &weight),
    }
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
        DType::BF16 => downstream::<bf16>(upstream, &weight, inner),
        _ => downstream::<f16>(upstream, &weight, inner),
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

fn widen<T: Half>(stored: &[T]) -> Vec<f32> {
    let mut widened = vec![0.0; stored.len()];
    let tasks = widened.chunks_mut(TASK_VALUES).zip(stored.chunks(TASK_VALUES));
    team::for_each(tasks, |(out, w)| T::widen(w, out));
    widened
}

fn narrow<T: Half>(values: &[f32]) -> Vec<T> {
    let mut narrowed = vec![T::zeroed(); values.len()];
    let tasks = narrowed.chunks_mut(TASK_VALUES).zip(values.chunks(TASK_VALUES));
    team::for_each(tasks, |(out, x)| T::narrow(x, out));
    narrowed
}

fn stored_values<T: Half>(weight: &FlexTensor) -> &[T] {
    weight.as_slice().expect("the weight is contiguous and of its dtype")
}

/// `y (+)= x weight^T`
fn outputs<T: Half>(y: &mut [f32], mode: Destination, x: View<'_>, weight: &FlexTensor) {
    let weight = stored_values::<T>(weight);
    let outer = weight.len() / x.columns.max(1);
    let weight = View::dense(weight, outer, x.columns).transposed();
    product(y, outer, mode, 1.0, x, weight, Threads::All);
}

/// `grad weight`
fn downstream<T: Half>(grad: View<'_>, weight: &FlexTensor, inner: usize) -> Vec<f32> {
    let mut x = vec![0f32; grad.rows * inner];
    let weight = View::dense(stored_values::<T>(weight), grad.columns, inner);
    product(&mut x, inner, Destination::Replace, 1.0, grad, weight, Threads::All);
    x
}
