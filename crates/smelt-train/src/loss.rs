//! From a host batch to the loss: the one place where batches are uploaded.

use burn::tensor::Tensor;
use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{Kernels, float_tensor, int_tensor};
use smelt_data::TokenBatch;
use smelt_model::blocks::load_balancing_loss;
use smelt_model::{Decoder, DropoutStream, ForwardInput};

/// The loss of a batch, and what training minimises.
pub(crate) struct Loss<B: Kernels> {
    /// Sum over the batch of `scale * loss_mask * negative log-likelihood`, of shape `[1]`.
    pub likelihood: Tensor<B, 1>,
    /// The same, with the load-balancing loss of a model with experts.
    pub objective: Tensor<B, 1>,
}

/// Runs `model` on `batch`; `scale` is 1 over the tokens that the whole effective batch counts.
pub(crate) fn weighted_loss<B: Kernels>(
    model: &Decoder<B>,
    batch: &TokenBatch,
    scale: f64,
    dropout: Option<DropoutStream>,
    device: &B::Device,
) -> Loss<B> {
    let shape = [batch.batch_size, batch.seq_length];
    let tokens = batch.batch_size * batch.seq_length;
    let input_ids = int_tensor(&batch.input_ids, shape, device);
    let input = ForwardInput {
        dropout,
        position_ids: batch.position_ids.clone(),
        document_ids: batch.document_ids.clone(),
        ..ForwardInput::new(input_ids)
    };
    let (hidden, routings) = model.hidden_and_routing(input);
    let weights = batch.loss_mask.iter().map(|weight| (f64::from(*weight) * scale) as f32).collect();
    let likelihood = model.cross_entropy(
        hidden,
        int_tensor(&batch.targets, [tokens], device),
        float_tensor(weights, [tokens], device),
        CrossEntropyOptions::default().chunk_tokens,
    );
    let balance = model.config().experts.map_or(0.0, |experts| experts.router_aux_loss_coef);
    let objective = match routings.is_empty() || balance == 0.0 {
        true => likelihood.clone(),
        false => likelihood.clone() + load_balancing_loss(&routings) * (balance * counted(batch) * scale),
    };
    Loss { likelihood, objective }
}

/// Sum of the weights that the positions of a batch have in the loss.
pub(crate) fn counted(batch: &TokenBatch) -> f64 {
    batch.loss_mask.iter().map(|weight| f64::from(*weight)).sum()
}
