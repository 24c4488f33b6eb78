//! Adafactor (Shazeer and Stern 2018, arXiv:1804.04235), as `torch.optim.Adafactor`.
//!
//! The second moment of a matrix is kept as the means of its rows and columns. Steps are relative to the size
//! of the parameter; the learning rate bounds them.

use burn::tensor::ops::FloatTensor;
use smelt_backend::Kernels;

use super::rule::{Rule, Step, Subject, flat, root_mean_square, shape_of, shaped, unwrap, wrap};
use super::slot::{Held, Slot, Slots, State, wrapped};

/// Exponent of the decay of the second moment.
const BETA2_DECAY: f64 = -0.8;
/// Smallest root of the second moment.
const EPSILON_1: f64 = f32::EPSILON as f64;
/// Smallest size of a parameter that steps are relative to.
const EPSILON_2: f64 = 1e-3;
/// Largest root mean square of an update.
const CLIPPING_THRESHOLD: f64 = 1.0;

pub(super) struct Adafactor;

impl<B: Kernels> Rule<B> for Adafactor {
    fn slots(&self, shape: &[usize]) -> Slots {
        match *shape {
            [rows, columns] => {
                vec![Slot::on_device("row_var", &[rows, 1]), Slot::on_device("col_var", &[1, columns])]
            }
            _ => vec![Slot::on_device("variance", shape)],
        }
    }

    fn update(&self, subject: Subject<B>, state: State<B>, step: &Step) -> (FloatTensor<B>, State<B>) {
        let shape = shape_of::<B>(&subject.value);
        let fresh_share = (step.number as f64).powf(BETA2_DECAY);
        let gradient = flat::<B>(subject.gradient) * step.gradient_scale;
        let (variance, state) = match *shape {
            [_, _] => factored::<B>(shaped(gradient.clone(), &shape), state, fresh_share),
            _ => {
                let [variance] = wrapped::<B, 1, 1>(state);
                let squares = gradient.clone() * gradient.clone();
                let variance = variance * (1.0 - fresh_share) + squares * fresh_share;
                (unwrap(variance.clone()), vec![Held::of(variance)])
            }
        };
        let update = gradient / flat::<B>(variance).clamp_min(EPSILON_1 * EPSILON_1).sqrt();
        let value = flat::<B>(subject.value);
        let relative = step.learning_rate.min(1.0 / (step.number as f64).sqrt());
        let rate = root_mean_square(value.clone()).clamp_min(EPSILON_2) * relative;
        let excess = (root_mean_square(update.clone()) / CLIPPING_THRESHOLD).clamp_min(1.0);
        let decayed = value * (1.0 - step.learning_rate * subject.weight_decay);
        (shaped(decayed - update * (rate / excess), &shape), state)
    }
}

/// The second moment of a matrix, and its two factors.
fn factored<B: Kernels>(
    gradient: FloatTensor<B>,
    state: State<B>,
    fresh_share: f64,
) -> (FloatTensor<B>, State<B>) {
    let gradient = wrap::<B, 2>(gradient);
    let [rows, columns] = gradient.dims();
    let squares = gradient.clone() * gradient;
    let [row_variance, column_variance] = wrapped::<B, 2, 2>(state);
    let keep = 1.0 - fresh_share;
    let row_variance = row_variance * keep + squares.clone().sum_dim(1) * (fresh_share / columns as f64);
    let column_variance = column_variance * keep + squares.sum_dim(0) * (fresh_share / rows as f64);
    let mean = (row_variance.clone().sum_dim(0) / rows as f64).clamp_min(EPSILON_1);
    let variance = row_variance.clone() / mean * column_variance.clone();
    (unwrap(variance), vec![Held::of(row_variance), Held::of(column_variance)])
}
