//! From a host batch to the loss: the one place where batches are uploaded.

use burn::tensor::Tensor;
use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{Kernels, float_tensor, int_tensor};
use smelt_data::TokenBatch;
use smelt_model::{Decoder, DropoutStream, ForwardInput};

/// Sum over the batch of `scale * loss_mask * negative log-likelihood`, of shape `[1]`.
pub(crate) fn weighted_loss<B: Kernels>(
    model: &Decoder<B>,
    batch: &TokenBatch,
    scale: f64,
    dropout: Option<DropoutStream>,
    device: &B::Device,
) -> Tensor<B, 1> {
    let shape = [batch.batch_size, batch.seq_length];
    let tokens = batch.batch_size * batch.seq_length;
    let input_ids = int_tensor(&batch.input_ids, shape, device);
    let hidden = model.hidden(ForwardInput { dropout, ..ForwardInput::new(input_ids) });
    let weights = batch.loss_mask.iter().map(|weight| (f64::from(*weight) * scale) as f32).collect();
    model.cross_entropy(
        hidden,
        int_tensor(&batch.targets, [tokens], device),
        float_tensor(weights, [tokens], device),
        CrossEntropyOptions::default().chunk_tokens,
    )
}

/// Sum of the weights that the positions of a batch have in the loss.
pub(crate) fn counted(batch: &TokenBatch) -> f64 {
    batch.loss_mask.iter().map(|weight| f64::from(*weight)).sum()
}
