//! The tanh form of GELU and its gradient, each in one pass.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::fill::zeros;
use super::simd::{tanh, vectorized};
use super::{contiguous, from_vec, team, values};
use crate::kernels::activation::{GELU_CUBIC, gelu_scale};

/// Elements a thread takes at a time.
const CHUNK: usize = 1 << 14;

pub(super) fn gelu_tanh(x: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let shape = x.dims();
    let x = contiguous(x);
    let mut y = zeros(shape.iter().product());
    let chunks = y.chunks_mut(CHUNK).zip(values(&x).chunks(CHUNK));
    team::for_each(chunks, |(y, x)| forward(y, x));
    from_vec(y, shape)
}

pub(super) fn gelu_tanh_backward(x: Tensor<Flex, 2>, grad: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let shape = x.dims();
    let (x, grad) = (contiguous(x), contiguous(grad));
    let mut result = zeros(shape.iter().product());
    let inputs = values(&x).chunks(CHUNK).zip(values(&grad).chunks(CHUNK));
    let chunks = result.chunks_mut(CHUNK).zip(inputs);
    team::for_each(chunks, |(result, (x, grad))| backward(result, x, grad));
    from_vec(result, shape)
}

vectorized! {
    fn forward(y: &mut [f32], x: &[f32]) {
        let (scale, cubic) = (gelu_scale() as f32, GELU_CUBIC as f32);
        for (y, x) in y.iter_mut().zip(x) {
            let t = tanh(scale * (x + cubic * x * x * x));
            *y = 0.5 * x * (1.0 + t);
        }
    }
}

vectorized! {
    fn backward(result: &mut [f32], x: &[f32], grad: &[f32]) {
        let (scale, cubic) = (gelu_scale() as f32, GELU_CUBIC as f32);
        for ((result, x), grad) in result.iter_mut().zip(x).zip(grad) {
            let t = tanh(scale * (x + cubic * x * x * x));
            let slope = scale * (1.0 + 3.0 * cubic * x * x);
            *result = grad * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope);
        }
    }
}
