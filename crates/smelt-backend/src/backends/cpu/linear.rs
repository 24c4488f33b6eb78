//! `linear` in f32: the product starts from the bias instead of zero, and reads the weight in place.

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};

use super::fill::{repeated, zeros};
use super::matrix::{Destination, Stored, Threads, View, multiplied, product};
use super::{contiguous, flex, from_vec, team, values};
use crate::kernels::LinearGradients;

pub(super) fn forward(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 2>,
    bias: Option<Tensor<Flex, 1>>,
) -> Tensor<Flex, 2> {
    let ([rows, _], [outer, _]) = (x.dims(), weight.dims());
    let (x, weight) = (flex(x), flex(weight));
    let (a, b) = (matrix(&x), matrix(&weight).transposed());
    from_vec(added_to(bias, a, b), [rows, outer])
}

/// What `rows` rows of a product are added to, if there is a bias.
pub(super) fn start(bias: Option<Tensor<Flex, 1>>, rows: usize) -> Option<Vec<f32>> {
    bias.map(|bias| repeated(values(&contiguous(bias)), rows))
}

/// `a b`, added to the bias if there is one.
pub(super) fn added_to<T: Stored>(bias: Option<Tensor<Flex, 1>>, a: View<'_>, b: View<'_, T>) -> Vec<f32> {
    let Some(mut y) = start(bias, a.rows) else { return multiplied(a, b, Threads::All) };
    product(&mut y, b.columns, Destination::Add, 1.0, a, b, Threads::All);
    y
}

/// The matrix in a tensor of two dimensions, wherever its elements lie.
fn matrix(tensor: &FlexTensor) -> View<'_> {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape(), layout.strides());
    let stride = |dim: usize| usize::try_from(strides[dim]).expect("the tensor is not flipped");
    let buffer = &tensor.storage::<f32>()[layout.start_offset()..];
    View::new(buffer, [shape[0], shape[1]], [stride(0), stride(1)])
}

pub(super) fn backward(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 2>,
    grad: Tensor<Flex, 2>,
    [need_x, need_weight, need_bias]: [bool; 3],
) -> LinearGradients<Flex> {
    let ([rows, inner], [outer, _]) = (x.dims(), weight.dims());
    let (x, weight, grad) = (flex(x), flex(weight), contiguous(grad));
    let multiply = |a: View<'_>, b: View<'_>| {
        let (m, n) = (a.rows, b.columns);
        from_vec(multiplied(a, b, Threads::All), [m, n])
    };
    let upstream = View::dense(values(&grad), rows, outer);
    LinearGradients {
        x: need_x.then(|| multiply(upstream, matrix(&weight))),
        weight: need_weight.then(|| multiply(upstream.transposed(), matrix(&x).first_rows(rows))),
        bias: need_bias.then(|| column_sums(values(&grad), outer)).inspect(|_| debug_assert!(inner > 0)),
    }
}

/// Sum over the rows; columns are divided among threads, so each is summed in order.
pub(super) fn column_sums(grad: &[f32], columns: usize) -> Tensor<Flex, 1> {
    const BLOCK: usize = 256;
    let mut sums = zeros(columns);
    team::for_each(sums.chunks_mut(BLOCK).enumerate(), |(block, sums)| {
        for row in grad.chunks_exact(columns) {
            for (sum, value) in sums.iter_mut().zip(&row[block * BLOCK..]) {
                *sum += value;
            }
        }
    });
    from_vec(sums, [columns])
}
