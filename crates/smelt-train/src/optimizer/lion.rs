//! Lion (Chen et al. 2023, arXiv:2302.06675): the sign of an interpolated momentum.

use burn::tensor::ops::FloatTensor;
use smelt_backend::Kernels;

use super::rule::{Rule, Step, Subject, flat, shape_of, shaped};
use super::slot::{Held, Slot, Slots, State, tensors};
use crate::TrainConfig;

pub(super) struct Lion {
    /// Share of the momentum in the update.
    beta1: f64,
    /// Share of the momentum that stays.
    beta2: f64,
}

impl Lion {
    pub fn new(config: &TrainConfig) -> Self {
        Self { beta1: config.adam_beta1, beta2: config.adam_beta2 }
    }
}

impl<B: Kernels> Rule<B> for Lion {
    fn slots(&self, shape: &[usize]) -> Slots {
        vec![Slot::on_device("exp_avg", shape)]
    }

    fn update(&self, subject: Subject<B>, state: State<B>, step: &Step) -> (FloatTensor<B>, State<B>) {
        let shape = shape_of::<B>(&subject.value);
        let [momentum] = tensors(state).map(flat::<B>);
        let gradient = flat::<B>(subject.gradient) * step.gradient_scale;
        let direction = momentum.clone() * self.beta1 + gradient.clone() * (1.0 - self.beta1);
        let momentum = momentum * self.beta2 + gradient * (1.0 - self.beta2);
        let decayed = flat::<B>(subject.value) * (1.0 - step.learning_rate * subject.weight_decay);
        let value = decayed - direction.sign() * step.learning_rate;
        (shaped(value, &shape), vec![Held::Tensor(shaped(momentum, &shape))])
    }
}
