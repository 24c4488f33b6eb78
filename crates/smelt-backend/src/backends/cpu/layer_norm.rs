//! `layer_norm`: one pass over each row forward, one backward.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::fill::zeros;
use super::row_sums::{ROWS, row_sums};
use super::simd::{sum, sum2, vectorized};
use super::{contiguous, from_vec, team, values};
use crate::kernels::LayerNormGradients;

pub(super) fn forward(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 1>,
    bias: Option<Tensor<Flex, 1>>,
    epsilon: f32,
) -> Tensor<Flex, 2> {
    let [rows, width] = x.dims();
    let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
    let nothing;
    let bias = match &bias {
        Some(bias) => values(bias),
        None => {
            nothing = vec![0.0; width];
            &nothing
        }
    };
    let mut y = zeros(rows * width);
    let chunks = y.chunks_mut(ROWS * width).zip(values(&x).chunks(ROWS * width));
    team::for_each(chunks, |(y, x)| forward_rows(y, x, values(&weight), bias, epsilon));
    from_vec(y, [rows, width])
}

/// Mean and `1 / sqrt(variance + epsilon)`.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let mean = sum(x, |x| x) / x.len() as f32;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

vectorized! {
    fn forward_rows(y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) {
        let width = weight.len();
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, inverse) = moments(x, epsilon);
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = (x - mean) * inverse * weight + bias;
            }
        }
    }
}

pub(super) fn backward(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 1>,
    grad: Tensor<Flex, 2>,
    epsilon: f32,
) -> LayerNormGradients<Flex> {
    let [rows, width] = x.dims();
    let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
    let mut grad_x = zeros(rows * width);
    let inputs = [values(&x), values(&grad)];
    let [of_weight, of_bias] =
        row_sums(&mut grad_x, inputs, width, |grad_x, [x, grad], [of_weight, of_bias]| {
            backward_rows(grad_x, of_weight, of_bias, x, values(&weight), grad, epsilon);
        });
    LayerNormGradients {
        x: from_vec(grad_x, [rows, width]),
        weight: from_vec(of_weight, [width]),
        bias: from_vec(of_bias, [width]),
    }
}

vectorized! {
    fn backward_rows(
        grad_x: &mut [f32],
        of_weight: &mut [f32],
        of_bias: &mut [f32],
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        epsilon: f32,
    ) {
        let width = weight.len();
        let mut scaled = vec![0f32; width];
        let rows = grad_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
        for ((normalized, x), grad) in rows {
            let (mean, inverse) = moments(x, epsilon);
            for (normalized, x) in normalized.iter_mut().zip(x) {
                *normalized = (x - mean) * inverse;
            }
            for ((sum, grad), normalized) in of_weight.iter_mut().zip(grad).zip(&*normalized) {
                *sum += grad * normalized;
            }
            for (sum, grad) in of_bias.iter_mut().zip(grad) {
                *sum += grad;
            }
            for ((scaled, grad), weight) in scaled.iter_mut().zip(grad).zip(weight) {
                *scaled = grad * weight;
            }
            let along = sum2(&scaled, normalized, |a, b| a * b) / width as f32;
            let level = sum(&scaled, |x| x) / width as f32;
            for (normalized, scaled) in normalized.iter_mut().zip(&scaled) {
                *normalized = (scaled - level - *normalized * along) * inverse;
            }
        }
    }
}
