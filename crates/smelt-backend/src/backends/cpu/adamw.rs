//! AdamW in one pass over parameter, gradient and moments, in place.

use burn_flex::{Flex, FlexTensor};

use super::simd::vectorized;
use super::{into_contiguous, team, values};
use crate::kernels::{AdamWState, AdamWStep};

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
    let numbers = Numbers::of(step);
    // In place, unless somebody holds a tensor, such as a checkpoint that is being written: then in a copy.
    let chunks = parameter
        .storage_mut::<f32>()
        .chunks_mut(CHUNK)
        .zip(first.storage_mut::<f32>().chunks_mut(CHUNK))
        .zip(second.storage_mut::<f32>().chunks_mut(CHUNK))
        .zip(values(&gradient).chunks(CHUNK));
    team::for_each(chunks, |(((parameter, first), second), gradient)| {
        update(parameter, first, second, gradient, numbers);
    });
    (parameter, AdamWState { first_moment: first, second_moment: second })
}

/// An [`AdamWStep`] as the factors of the loop.
#[derive(Clone, Copy)]
struct Numbers {
    gradient_scale: f32,
    beta1: f32,
    beta2: f32,
    root_correction: f32,
    epsilon: f32,
    keep: f32,
    rate: f32,
}

impl Numbers {
    fn of(step: &AdamWStep) -> Self {
        Self {
            gradient_scale: step.gradient_scale as f32,
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            root_correction: (1.0 / step.second_correction().sqrt()) as f32,
            epsilon: step.epsilon as f32,
            keep: (1.0 - step.learning_rate * step.weight_decay) as f32,
            rate: (step.learning_rate / step.first_correction()) as f32,
        }
    }
}

vectorized! {
    fn update(parameter: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], n: Numbers) {
        let moments = first.iter_mut().zip(second);
        for ((parameter, (first, second)), gradient) in parameter.iter_mut().zip(moments).zip(gradient) {
            let g = gradient * n.gradient_scale;
            *first = n.beta1 * *first + (1.0 - n.beta1) * g;
            *second = n.beta2 * *second + (1.0 - n.beta2) * g * g;
            let denominator = second.sqrt() * n.root_correction + n.epsilon;
            *parameter = *parameter * n.keep - n.rate * *first / denominator;
        }
    }
}
