//! How well a model predicts sequences of tokens, and how far its predictions lie from those of another.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{Kernels, float_tensor, int_tensor, scalar, to_host};
use smelt_model::{Decoder, ForwardInput};

use super::go_on;
use crate::ConvertError;

/// `exp` of the mean negative log-likelihood of each token but the first of each sequence, given those before it.
///
/// Calls `on_sequence` with the number of sequences that are done.
///
/// # Errors
/// [`ConvertError::Interrupted`] if `on_sequence` breaks.
///
/// # Panics
/// If no sequence has two tokens, or one does not fit the context.
pub fn perplexity<B: Kernels>(
    model: &Decoder<B>,
    sequences: &[Vec<u32>],
    on_sequence: &mut dyn FnMut(usize) -> ControlFlow<()>,
    device: &B::Device,
) -> Result<f64, ConvertError> {
    let (mut sum, mut tokens) = (0.0, 0);
    for (index, ids) in sequences.iter().enumerate() {
        let Some((_, targets)) = ids.split_first().filter(|(_, targets)| !targets.is_empty()) else {
            continue;
        };
        let rows = targets.len();
        let hidden = model.hidden(ForwardInput::new(int_tensor(&ids[..rows], [1, rows], device)));
        let (targets, weights) =
            (int_tensor(targets, [rows], device), float_tensor(vec![1.0; rows], [rows], device));
        sum +=
            scalar(model.cross_entropy(hidden, targets, weights, CrossEntropyOptions::default()).likelihood);
        tokens += rows;
        go_on(on_sequence(index + 1))?;
    }
    assert!(tokens > 0, "sequences of two tokens or more");
    Ok((sum / tokens as f64).exp())
}

/// The mean Kullback-Leibler divergence of what `model` predicts after each token from what `reference` does, in nats.
///
/// Unlike perplexity it says nothing about whether predictions are right, and so tells small changes apart that luck
/// hides there. Calls `on_sequence` as [`perplexity`] does.
///
/// # Errors
/// [`ConvertError::Interrupted`] if `on_sequence` breaks.
///
/// # Panics
/// If a sequence is empty or does not fit the context.
pub fn divergence<B: Kernels>(
    model: &Decoder<B>,
    reference: &Decoder<B>,
    sequences: &[Vec<u32>],
    on_sequence: &mut dyn FnMut(usize) -> ControlFlow<()>,
    device: &B::Device,
) -> Result<f64, ConvertError> {
    let (mut sum, mut tokens) = (0.0, 0);
    for (index, ids) in sequences.iter().enumerate() {
        let hidden = |model: &Decoder<B>| {
            let hidden = model.hidden(ForwardInput::new(int_tensor(ids, [1, ids.len()], device)));
            let [_, rows, features] = hidden.dims();
            hidden.reshape([rows, features])
        };
        sum += summed_divergence(model, hidden(model), reference, hidden(reference));
        tokens += ids.len();
        go_on(on_sequence(index + 1))?;
    }
    Ok((sum / tokens.max(1) as f64).max(0.0))
}

/// The sum over rows of the divergence of what `model` predicts from `found` `[rows, hidden_size]`, behind its final
/// norm, from what `reference` predicts from `expected`.
pub(super) fn summed_divergence<B: Kernels>(
    model: &Decoder<B>,
    found: Tensor<B, 2>,
    reference: &Decoder<B>,
    expected: Tensor<B, 2>,
) -> f64 {
    let found = log_softmax(model.row_logits(found), 1);
    let expected = log_softmax(reference.row_logits(expected), 1);
    let rows = to_host((expected.clone().exp() * (expected - found)).sum_dim(1));
    rows.into_iter().map(f64::from).sum()
}
