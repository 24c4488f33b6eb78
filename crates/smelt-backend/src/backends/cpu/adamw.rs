//! AdamW in one pass over parameter, gradient and moments, in place.

use burn_flex::{Flex, FlexTensor};

use super::simd::vectorized;
use super::{into_contiguous, team, values};
use crate::kernels::{AdamWFactors, AdamWState, AdamWStep};

/// Elements a thread takes at a time.
const CHUNK: usize = 1 << 14;

pub(super) fn step(
    parameter: FlexTensor,
    gradient: FlexTensor,
    state: AdamWState<Flex>,
    step: &AdamWStep,
) -> (FlexTensor, AdamWState<Flex>) {
    let mut parameter = into_contiguous(parameter);
    let mut first = into_contiguous(state.first_moment);
    let mut second = into_contiguous(state.second_moment);
    let gradient = into_contiguous(gradient);
    let factors = AdamWFactors::of(step);
    // In place, unless somebody holds a tensor, such as a checkpoint that is being written: then in a copy.
    let chunks = parameter
        .storage_mut::<f32>()
        .chunks_mut(CHUNK)
        .zip(first.storage_mut::<f32>().chunks_mut(CHUNK))
        .zip(second.storage_mut::<f32>().chunks_mut(CHUNK))
        .zip(values(&gradient).chunks(CHUNK));
    team::for_each(chunks, |(((parameter, first), second), gradient)| {
        update(parameter, first, second, gradient, factors);
    });
    (parameter, AdamWState { first_moment: first, second_moment: second })
}

vectorized! {
    fn update(values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], factors: AdamWFactors) {
        factors.update(values, gradient, first, second);
    }
}
