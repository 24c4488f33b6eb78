//! AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), by the kernel of the backend.

use burn::tensor::ops::FloatTensor;
use smelt_backend::Kernels;
use smelt_backend::kernels::{AdamWState, AdamWStep};

use super::rule::{Rule, Step, Subject};
use super::slot::{Held, Slot, Slots, State, tensors};
use crate::TrainConfig;

/// The names of the moments.
pub(super) const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

#[derive(Debug, Clone, Copy)]
pub(super) struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    /// Share of the schedule's learning rate.
    rate_share: f64,
}

impl AdamW {
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            epsilon: config.adam_epsilon,
            rate_share: 1.0,
        }
    }

    /// For what Muon leaves out, with a learning rate of its own where `config` has one.
    pub fn beside_muon(self, config: &TrainConfig) -> Self {
        let rate_share = config.adam_learning_rate.map_or(1.0, |rate| rate / config.learning_rate);
        Self { rate_share, ..self }
    }

    /// The numbers of one update.
    pub fn numbers(&self, weight_decay: f64, step: &Step) -> AdamWStep {
        AdamWStep {
            learning_rate: step.learning_rate * self.rate_share,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay,
            number: step.number,
            gradient_scale: step.gradient_scale,
        }
    }
}

impl<B: Kernels> Rule<B> for AdamW {
    fn slots(&self, shape: &[usize]) -> Slots {
        MOMENTS.map(|name| Slot::on_device(name, shape)).to_vec()
    }

    fn update(&self, subject: Subject<B>, state: State<B>, step: &Step) -> (FloatTensor<B>, State<B>) {
        let [first_moment, second_moment] = tensors(state);
        let state = AdamWState { first_moment, second_moment };
        let numbers = self.numbers(subject.weight_decay, step);
        let (value, state) = B::adamw_step(subject.value, subject.gradient, state, &numbers);
        (value, vec![Held::Tensor(state.first_moment), Held::Tensor(state.second_moment)])
    }
}
