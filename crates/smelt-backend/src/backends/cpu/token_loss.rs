//! Softmax cross-entropy: the gradient overwrites the logits.

use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::Flex;

use super::simd::{sum, vectorized};
use super::{contiguous, flex, from_vec, team, values, wrap};
use crate::kernels::TokenLoss;
use crate::{exp, largest};

pub(super) fn token_loss(
    logits: Tensor<Flex, 2>,
    targets: Tensor<Flex, 1, Int>,
    token_weights: Tensor<Flex, 1>,
    z_loss: f64,
    with_gradient: bool,
) -> TokenLoss<Flex> {
    let [tokens, vocab] = logits.dims();
    let targets = ids(targets.into_data());
    let weights = contiguous(token_weights);
    let mut logits = contiguous(logits);
    let coefficient = z_loss as f32;
    let mut losses = vec![RowLoss::default(); tokens];
    let rows = targets.iter().zip(values(&weights)).zip(&mut losses);
    if with_gradient {
        // Copies only if somebody else holds the logits, too.
        let rows = logits.storage_mut::<f32>().chunks_mut(vocab).zip(rows);
        team::for_each(rows, |(row, ((target, weight), loss))| {
            *loss = loss_and_gradient(row, *target, *weight, coefficient)
        });
    } else {
        let rows = values(&logits).chunks(vocab).zip(rows);
        team::for_each(rows, |(row, ((target, weight), loss))| {
            *loss = loss_of_row(row, *target, *weight, coefficient)
        });
    }
    let sum = |part: fn(&RowLoss) -> f32| {
        let sum = losses.iter().map(|loss| f64::from(part(loss))).sum::<f64>() as f32;
        from_vec(vec![sum], [1])
    };
    TokenLoss {
        sum: sum(|loss| loss.likelihood),
        z_loss: (z_loss != 0.0).then(|| sum(|loss| loss.z_loss)),
        logits_gradient: with_gradient.then(|| wrap(flex(wrap::<2>(logits)))),
    }
}

fn ids(data: TensorData) -> Vec<usize> {
    data.iter::<i64>().map(|id| usize::try_from(id).expect("targets are token ids")).collect()
}

/// The weighted losses of one position.
#[derive(Debug, Clone, Copy, Default)]
struct RowLoss {
    likelihood: f32,
    z_loss: f32,
}

impl RowLoss {
    /// `picked` is the target's logit and `log_total` the logarithm of the sum, both less `largest`.
    fn new(picked: f32, log_total: f32, largest: f32, weight: f32, coefficient: f32) -> Self {
        let log_z = log_total + largest;
        Self { likelihood: weight * (log_total - picked), z_loss: weight * coefficient * log_z * log_z }
    }
}

vectorized! {
    fn loss_of_row(logits: &[f32], target: usize, weight: f32, coefficient: f32) -> RowLoss {
        if weight == 0.0 {
            return RowLoss::default();
        }
        let largest = largest(logits);
        let total = sum(logits, |x| exp(x - largest));
        RowLoss::new(logits[target] - largest, total.ln(), largest, weight, coefficient)
    }
}

vectorized! {
    /// The losses; `logits` become the gradient of their sum.
    fn loss_and_gradient(logits: &mut [f32], target: usize, weight: f32, coefficient: f32) -> RowLoss {
        if weight == 0.0 {
            logits.fill(0.0);
            return RowLoss::default();
        }
        let largest = largest(logits);
        let picked = logits[target] - largest;
        for x in logits.iter_mut() {
            *x = exp(*x - largest);
        }
        let total = sum(logits, |x| x);
        let log_total = total.ln();
        let scale = weight * (1.0 + 2.0 * coefficient * (log_total + largest)) / total;
        for x in logits.iter_mut() {
            *x *= scale;
        }
        logits[target] -= weight;
        RowLoss::new(picked, log_total, largest, weight, coefficient)
    }
}
