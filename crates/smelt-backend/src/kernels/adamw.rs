//! AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), in PyTorch's order of operations.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorMetadata};

use super::Kernels;
use super::autodiff::{float, tensor};

/// The moments of one parameter, in the parameter's shape.
#[derive(Debug, Clone)]
pub struct AdamWState<B: Kernels> {
    /// Running mean of the gradient.
    pub first_moment: FloatTensor<B>,
    /// Running mean of the squared gradient.
    pub second_moment: FloatTensor<B>,
}

/// Numbers of one update, shared by all parameters of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this update, from 1: the moments' bias correction depends on it.
    pub number: u64,
    /// The gradient is multiplied by this first (clipping by global norm).
    pub gradient_scale: f64,
}

impl AdamWStep {
    /// `1 - beta1^number`.
    pub fn first_correction(&self) -> f64 {
        1.0 - self.beta1.powf(self.number as f64)
    }

    /// `1 - beta2^number`.
    pub fn second_correction(&self) -> f64 {
        1.0 - self.beta2.powf(self.number as f64)
    }
}

/// An [`AdamWStep`] as the factors of a loop over numbers in f32.
#[derive(Debug, Clone, Copy)]
pub struct AdamWFactors {
    gradient_scale: f32,
    beta1: f32,
    beta2: f32,
    root_correction: f32,
    epsilon: f32,
    keep: f32,
    rate: f32,
}

impl AdamWFactors {
    /// Those of `step`.
    pub fn of(step: &AdamWStep) -> Self {
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

    /// Updates `values` and their moments `first` and `second`; all slices are of one length.
    ///
    /// Inlined, so that it becomes instructions of the caller's set.
    #[inline(always)]
    pub fn update(&self, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let moments = first.iter_mut().zip(second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            let g = gradient * self.gradient_scale;
            *first = self.beta1 * *first + (1.0 - self.beta1) * g;
            *second = self.beta2 * *second + (1.0 - self.beta2) * g * g;
            let denominator = second.sqrt() * self.root_correction + self.epsilon;
            *value = *value * self.keep - self.rate * *first / denominator;
        }
    }
}

/// [`Kernels::adamw_step`] in plain burn operations.
pub fn plain<B: Kernels>(
    parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    state: AdamWState<B>,
    step: &AdamWStep,
) -> (FloatTensor<B>, AdamWState<B>) {
    let shape = parameter.shape();
    let flat = |primitive: FloatTensor<B>| -> Tensor<B, 1> {
        let count = primitive.shape().num_elements();
        tensor(B::float_reshape(primitive, [count].into()))
    };
    let gradient = flat(gradient) * step.gradient_scale;
    let first = flat(state.first_moment) * step.beta1 + gradient.clone() * (1.0 - step.beta1);
    let second = flat(state.second_moment) * step.beta2 + gradient.clone() * gradient * (1.0 - step.beta2);
    let denominator = second.clone().sqrt() / step.second_correction().sqrt() + step.epsilon;
    let decayed = flat(parameter) * (1.0 - step.learning_rate * step.weight_decay);
    let update = first.clone() / denominator * (step.learning_rate / step.first_correction());
    let [parameter, first_moment, second_moment] =
        [decayed - update, first, second].map(|t| B::float_reshape(float(t), shape.clone()));
    (parameter, AdamWState { first_moment, second_moment })
}
