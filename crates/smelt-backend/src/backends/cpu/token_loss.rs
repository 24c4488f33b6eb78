//! Softmax cross-entropy: the gradient overwrites the logits.

use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::Flex;
use rayon::prelude::*;

use super::simd::{exp, max, sum, vectorized};
use super::{contiguous, flex, from_vec, values, wrap};
use crate::kernels::TokenLoss;

pub(super) fn token_loss(
    logits: Tensor<Flex, 2>,
    targets: Tensor<Flex, 1, Int>,
    token_weights: Tensor<Flex, 1>,
    with_gradient: bool,
) -> TokenLoss<Flex> {
    let [tokens, vocab] = logits.dims();
    let targets = ids(targets.into_data());
    let weights = contiguous(token_weights);
    let mut logits = contiguous(logits);
    let mut losses = vec![0f32; tokens];
    let rows = targets.par_iter().zip(values(&weights)).zip(&mut losses);
    if with_gradient {
        // Copies only if somebody else holds the logits, too.
        let rows = logits.storage_mut::<f32>().par_chunks_mut(vocab).zip(rows);
        rows.for_each(|(row, ((target, weight), loss))| *loss = loss_and_gradient(row, *target, *weight));
    } else {
        let rows = values(&logits).par_chunks(vocab).zip(rows);
        rows.for_each(|(row, ((target, weight), loss))| *loss = loss_of_row(row, *target, *weight));
    }
    let sum = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() as f32;
    TokenLoss {
        sum: from_vec(vec![sum], [1]),
        logits_gradient: with_gradient.then(|| wrap(flex(wrap::<2>(logits)))),
    }
}

fn ids(data: TensorData) -> Vec<usize> {
    data.iter::<i64>().map(|id| usize::try_from(id).expect("targets are token ids")).collect()
}

vectorized! {
    fn loss_of_row(logits: &[f32], target: usize, weight: f32) -> f32 {
        if weight == 0.0 {
            return 0.0;
        }
        let largest = max(logits);
        let total = sum(logits, |x| exp(x - largest));
        weight * (total.ln() - (logits[target] - largest))
    }
}

vectorized! {
    /// The loss; `logits` become its gradient.
    fn loss_and_gradient(logits: &mut [f32], target: usize, weight: f32) -> f32 {
        if weight == 0.0 {
            logits.fill(0.0);
            return 0.0;
        }
        let largest = max(logits);
        let picked = logits[target] - largest;
        for x in logits.iter_mut() {
            *x = exp(*x - largest);
        }
        let total = sum(logits, |x| x);
        let scale = weight / total;
        for x in logits.iter_mut() {
            *x *= scale;
        }
        logits[target] -= weight;
        weight * (total.ln() - picked)
    }
}
