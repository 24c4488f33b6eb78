//! `silu(gate) * up` and its gradients, each in one pass.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::fill::zeros;
use super::simd::vectorized;
use super::{contiguous, from_vec, team, values};
use crate::exp;

/// Elements a thread takes at a time.
const CHUNK: usize = 1 << 14;

pub(super) fn forward(gate: Tensor<Flex, 2>, up: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let shape = gate.dims();
    let (gate, up) = (contiguous(gate), contiguous(up));
    let mut y = zeros(shape.iter().product());
    let inputs = values(&gate).chunks(CHUNK).zip(values(&up).chunks(CHUNK));
    team::for_each(y.chunks_mut(CHUNK).zip(inputs), |(y, (gate, up))| swiglu(y, gate, up));
    from_vec(y, shape)
}

pub(super) fn backward(
    gate: Tensor<Flex, 2>,
    up: Tensor<Flex, 2>,
    grad: Tensor<Flex, 2>,
) -> (Tensor<Flex, 2>, Tensor<Flex, 2>) {
    let shape = gate.dims();
    let (gate, up, grad) = (contiguous(gate), contiguous(up), contiguous(grad));
    let [mut of_gate, mut of_up] = [(); 2].map(|()| zeros(shape.iter().product()));
    let inputs = values(&gate).chunks(CHUNK).zip(values(&up).chunks(CHUNK)).zip(values(&grad).chunks(CHUNK));
    let outputs = of_gate.chunks_mut(CHUNK).zip(of_up.chunks_mut(CHUNK));
    team::for_each(outputs.zip(inputs), |((of_gate, of_up), ((gate, up), grad))| {
        swiglu_backward(of_gate, of_up, gate, up, grad);
    });
    (from_vec(of_gate, shape), from_vec(of_up, shape))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

vectorized! {
    fn swiglu(y: &mut [f32], gate: &[f32], up: &[f32]) {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate * sigmoid(*gate) * up;
        }
    }
}

vectorized! {
    fn swiglu_backward(of_gate: &mut [f32], of_up: &mut [f32], gate: &[f32], up: &[f32], grad: &[f32]) {
        let outputs = of_gate.iter_mut().zip(of_up);
        for (((of_gate, of_up), (gate, up)), grad) in outputs.zip(gate.iter().zip(up)).zip(grad) {
            let s = sigmoid(*gate);
            *of_up = grad * gate * s;
            *of_gate = grad * up * s * (1.0 + gate * (1.0 - s));
        }
    }
}
