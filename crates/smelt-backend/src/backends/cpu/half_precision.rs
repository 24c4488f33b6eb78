//! `linear` with a weight held in half precision: products make its values f32 where they take them, so that the
//! weight takes, and is read with, half the bytes.
//!
//! Products are computed in f32. Training in half precision rounds what enters them: `x`, which comes in the
//! weight's dtype then, and the gradient. In bf16, machines with a unit for such products use that.

use std::borrow::Cow;

use burn::tensor::{DType, Element, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::fill::zeros;
use super::linear::{added_to, column_sums, start};
use super::matrix::{Stored, Threads, View, multiplied, product_of_bf16};
use super::simd::{Bf16Unit, bf16_unit, vectorized};
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
    if let Some(unit) = unit_for(&x, &weight, rows) {
        let (a, b) = (stored(&x), stored(&weight).transposed());
        return from_vec(product_of_bf16(unit, start(bias, rows), a, b), [rows, outer]);
    }
    let x = as_f32(&x);
    let x = View::dense(&x, rows, inner);
    let y = match weight.dtype() {
        DType::BF16 => added_to(bias, x, stored::<bf16>(&weight).transposed()),
        _ => added_to(bias, x, stored::<f16>(&weight).transposed()),
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
    let bias = need_bias.then(|| column_sums(values(&grad), outer));
    if let Some(unit) = unit_for(&x, &weight, rows) {
        let grad = narrow::<bf16>(values(&grad));
        let grad = View::dense(&grad, rows, outer);
        let product = |a, b| product_of_bf16(unit, None, a, b);
        return LinearGradients {
            x: need_x.then(|| from_vec(product(grad, stored(&weight)), [rows, inner])),
            weight: need_weight.then(|| from_vec(product(grad.transposed(), stored(&x)), [outer, inner])),
            bias,
        };
    }
    let rounded = match x.dtype() {
        DType::BF16 => Cow::Owned(widen(&narrow::<bf16>(values(&grad)))),
        DType::F16 => Cow::Owned(widen(&narrow::<f16>(values(&grad)))),
        _ => Cow::Borrowed(values(&grad)),
    };
    let upstream = View::dense(&rounded, rows, outer);
    let x_gradient = need_x.then(|| match weight.dtype() {
        DType::BF16 => multiplied(upstream, stored::<bf16>(&weight), Threads::All),
        _ => multiplied(upstream, stored::<f16>(&weight), Threads::All),
    });
    let weight_gradient = need_weight.then(|| {
        let x = as_f32(&x);
        multiplied(upstream.transposed(), View::dense(&x, rows, inner), Threads::All)
    });
    LinearGradients {
        x: x_gradient.map(|gradient| from_vec(gradient, [rows, inner])),
        weight: weight_gradient.map(|gradient| from_vec(gradient, [outer, inner])),
        bias,
    }
}

/// What multiplies `x` and `weight` if both are in bf16, and rows enough to be copied for it.
fn unit_for(x: &FlexTensor, weight: &FlexTensor, rows: usize) -> Option<Bf16Unit> {
    const FEWEST_ROWS: usize = 16;
    let both = x.dtype() == DType::BF16 && weight.dtype() == DType::BF16;
    bf16_unit().filter(|_| both && rows >= FEWEST_ROWS)
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
    let mut widened = zeros(stored.len());
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

/// The matrix in a contiguous tensor of a format of this file.
fn stored<T: Half>(weight: &FlexTensor) -> View<'_, T> {
    let shape = weight.layout().shape();
    View::dense(stored_values(weight), shape[0], shape[1])
}

fn stored_values<T: Half>(weight: &FlexTensor) -> &[T] {
    weight.as_slice().expect("the weight is contiguous and of its dtype")
}
