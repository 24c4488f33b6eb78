//! Stochastic gradient descent with momentum (Sutskever et al. 2013), as `torch.optim.SGD`.
//!
//! Weight decay is added to the gradient, as there: it passes through the momentum.

use burn::tensor::ops::FloatTensor;
use smelt_backend::Kernels;

use super::rule::{Rule, Step, Subject, flat, shape_of, shaped};
use super::slot::{Held, Slot, Slots, State, tensors};
use crate::TrainConfig;

pub(super) struct Sgd {
    momentum: f64,
    nesterov: bool,
}

impl Sgd {
    pub fn new(config: &TrainConfig) -> Self {
        Self { momentum: config.momentum, nesterov: config.nesterov }
    }
}

impl<B: Kernels> Rule<B> for Sgd {
    fn slots(&self, shape: &[usize]) -> Slots {
        if self.momentum == 0.0 { Vec::new() } else { vec![Slot::on_device("momentum_buffer", shape)] }
    }

    fn update(&self, subject: Subject<B>, state: State<B>, step: &Step) -> (FloatTensor<B>, State<B>) {
        let shape = shape_of::<B>(&subject.value);
        let value = flat::<B>(subject.value);
        let gradient =
            flat::<B>(subject.gradient) * step.gradient_scale + value.clone() * subject.weight_decay;
        if state.is_empty() {
            return (shaped(value - gradient * step.learning_rate, &shape), state);
        }
        let [momentum] = tensors(state).map(flat::<B>);
        let momentum = momentum * self.momentum + gradient.clone();
        let update = match self.nesterov {
            true => gradient + momentum.clone() * self.momentum,
            false => momentum.clone(),
        };
        let value = value - update * step.learning_rate;
        (shaped(value, &shape), vec![Held::Tensor(shaped(momentum, &shape))])
    }
}
