//! Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), as `torch.optim.Muon`: momentum whose
//! singular values are made about 1.
//!
//! For hidden matrices alone. Where torch iterates in bf16, this does in f32.

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;
use smelt_backend::Kernels;

use super::rule::{Rule, Step, Subject, flat, shape_of, shaped, unwrap, wrap};
use super::slot::{Held, Slot, Slots, State, tensors};
use crate::{MuonAdjustLrFn, TrainConfig};

/// The polynomial `a x + b x^3 + c x^5`, steep at zero.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// Smallest norm that is divided by.
const EPSILON: f64 = 1e-7;

pub(super) struct Muon {
    momentum: f64,
    nesterov: bool,
    adjust_lr_fn: MuonAdjustLrFn,
}

impl Muon {
    pub fn new(config: &TrainConfig) -> Self {
        Self { momentum: config.momentum, nesterov: config.nesterov, adjust_lr_fn: config.muon_adjust_lr_fn }
    }

    /// The factor on the learning rate of a matrix of `shape`.
    fn adjusted(&self, shape: &[usize]) -> f64 {
        let (rows, columns) = (shape[0] as f64, shape[1] as f64);
        match self.adjust_lr_fn {
            MuonAdjustLrFn::Original => (rows / columns).max(1.0).sqrt(),
            MuonAdjustLrFn::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
            MuonAdjustLrFn::SpectralUnclamped => (rows / columns).sqrt(),
        }
    }
}

impl<B: Kernels> Rule<B> for Muon {
    fn slots(&self, shape: &[usize]) -> Slots {
        vec![Slot::on_device("momentum_buffer", shape)]
    }

    fn update(&self, subject: Subject<B>, state: State<B>, step: &Step) -> (FloatTensor<B>, State<B>) {
        let shape = shape_of::<B>(&subject.value);
        let [momentum] = tensors(state).map(flat::<B>);
        let gradient = flat::<B>(subject.gradient) * step.gradient_scale;
        let fresh_share = 1.0 - self.momentum;
        let momentum = momentum * self.momentum + gradient.clone() * fresh_share;
        let update = match self.nesterov {
            true => gradient * fresh_share + momentum.clone() * self.momentum,
            false => momentum.clone(),
        };
        let update = orthogonal(wrap::<B, 2>(shaped(update, &shape)));
        let decayed = flat::<B>(subject.value) * (1.0 - step.learning_rate * subject.weight_decay);
        let rate = step.learning_rate * self.adjusted(&shape);
        let value = decayed - flat::<B>(unwrap(update)) * rate;
        (shaped(value, &shape), vec![Held::Tensor(shaped(momentum, &shape))])
    }
}

/// `U V^T` of the singular value decomposition `U S V^T`, roughly, by Newton and Schulz's iteration.
fn orthogonal<B: Kernels>(matrix: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, columns] = matrix.dims();
    let tall = rows > columns;
    let wide = if tall { matrix.transpose() } else { matrix };
    let norm = (wide.clone() * wide.clone()).sum_dim(1).sum_dim(0).sqrt().clamp_min(EPSILON);
    let mut x = wide / norm;
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        // `Kernels::linear` multiplies by the transpose; a Gram matrix is its own.
        let gram = Kernels::linear(x.clone(), x.clone(), None);
        let square: Tensor<B, 2> = Kernels::linear(gram.clone(), gram.clone(), None);
        let odd = gram * b + square * c;
        x = x.clone() * a + odd.matmul(x);
    }
    if tall { x.transpose() } else { x }
}
