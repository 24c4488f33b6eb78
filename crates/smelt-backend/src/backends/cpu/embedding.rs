//! The gradient of a table of vectors: rows are added where they belong, in the order of the positions.

use burn::tensor::{Int, Tensor};
use burn_flex::Flex;

use super::fill::zeros;
use super::{contiguous, from_vec, values};

pub(super) fn backward(
    weight: [usize; 2],
    ids: Tensor<Flex, 2, Int>,
    grad: Tensor<Flex, 3>,
) -> Tensor<Flex, 2> {
    let [count, features] = weight;
    let grad = contiguous(grad);
    // Zeros of the system: memory is taken for rows that some position looked up.
    let mut sums = zeros(count * features);
    for (id, row) in ids.into_data().iter::<i64>().zip(values(&grad).chunks_exact(features)) {
        let id = usize::try_from(id).expect("ids are rows of the table");
        let sum = &mut sums[id * features..(id + 1) * features];
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    from_vec(sums, weight)
}
