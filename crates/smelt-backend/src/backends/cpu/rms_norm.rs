//! `rms_norm`: one pass over each row forward, one backward.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::fill::zeros;
use super::row_sums::{ROWS, row_sums};
use super::simd::{sum, sum2, vectorized};
use super::{contiguous, from_vec, team, values};
use crate::kernels::RmsNormGradients;

pub(super) fn forward(x: Tensor<Flex, 2>, weight: Tensor<Flex, 1>, epsilon: f32) -> Tensor<Flex, 2> {
    let [rows, width] = x.dims();
    let (x, weight) = (contiguous(x), contiguous(weight));
    let mut y = zeros(rows * width);
    let chunks = y.chunks_mut(ROWS * width).zip(values(&x).chunks(ROWS * width));
    team::for_each(chunks, |(y, x)| forward_rows(y, x, values(&weight), epsilon));
    from_vec(y, [rows, width])
}

/// `1 / rms(x)`
#[inline(always)]
fn inverse_root(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + epsilon).sqrt()
}

vectorized! {
    fn forward_rows(y: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
        let width = weight.len();
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let inverse = inverse_root(x, epsilon);
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * weight;
            }
        }
    }
}

pub(super) fn backward(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 1>,
    grad: Tensor<Flex, 2>,
    epsilon: f32,
) -> RmsNormGradients<Flex> {
    let [rows, width] = x.dims();
    let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
    let mut grad_x = zeros(rows * width);
    let inputs = [values(&x), values(&grad)];
    let [of_weight] = row_sums(&mut grad_x, inputs, width, |grad_x, [x, grad], [of_weight]| {
        backward_rows(grad_x, of_weight, x, values(&weight), grad, epsilon);
    });
    RmsNormGradients { x: from_vec(grad_x, [rows, width]), weight: from_vec(of_weight, [width]) }
}

vectorized! {
    fn backward_rows(
        grad_x: &mut [f32],
        of_weight: &mut [f32],
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        epsilon: f32,
    ) {
        let width = weight.len();
        let mut scaled = vec![0f32; width];
        let rows = grad_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
        for ((grad_x, x), grad) in rows {
            let inverse = inverse_root(x, epsilon);
            for (((sum, scaled), (grad, weight)), x) in
                of_weight.iter_mut().zip(&mut scaled).zip(grad.iter().zip(weight)).zip(x)
            {
                *sum += grad * x * inverse;
                *scaled = grad * weight;
            }
            let along = sum2(&scaled, x, |a, b| a * b) * inverse * inverse / width as f32;
            for ((grad_x, scaled), x) in grad_x.iter_mut().zip(&scaled).zip(x) {
                *grad_x = (scaled - x * along) * inverse;
            }
        }
    }
}
