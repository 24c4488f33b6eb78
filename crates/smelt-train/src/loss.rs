//! From a host batch to the loss: the one place where batches are uploaded.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use smelt_backend::kernels::{CrossEntropyLoss, CrossEntropyOptions};
use smelt_backend::profile::phase;
use smelt_backend::{Kernels, Precision, float_tensor, int_tensor, scalar};
use smelt_data::TokenBatch;
use smelt_model::blocks::load_balancing_loss;
use smelt_model::{Decoder, DropoutStream, ForwardInput};

use crate::gradients::Gradients;

/// A batch and its part in a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MicroBatch<'a> {
    /// What it holds.
    pub batch: &'a TokenBatch,
    /// 1 over the tokens that the whole effective batch counts, times the loss scale of f16.
    pub scale: f64,
    /// Coefficient of the z-loss.
    pub z_loss: f64,
    /// Format of training's products.
    pub precision: Precision,
    /// Training's dropout.
    pub dropout: Option<DropoutStream>,
}

impl MicroBatch<'_> {
    /// What enters a model.
    pub fn input<B: Kernels>(&self, device: &B::Device) -> ForwardInput<B> {
        let shape = [self.batch.batch_size, self.batch.seq_length];
        ForwardInput {
            dropout: self.dropout,
            position_ids: self.batch.position_ids.clone(),
            document_ids: self.batch.document_ids.clone(),
            ..ForwardInput::new(int_tensor(&self.batch.input_ids, shape, device))
        }
    }

    /// Sum over the batch of `scale * loss_mask * negative log-likelihood`, and the same with the z-loss; `hidden`
    /// is what leaves the final norm.
    pub fn cross_entropy<B: Kernels>(&self, model: &Decoder<B>, hidden: Tensor<B, 3>) -> CrossEntropyLoss<B> {
        let (device, tokens) = (hidden.device(), self.batch.input_ids.len());
        let weight = |weight: &f32| (f64::from(*weight) * self.scale) as f32;
        let weights = self.batch.loss_mask.iter().map(weight).collect();
        model.cross_entropy(
            hidden,
            int_tensor(&self.batch.targets, [tokens], &device),
            float_tensor(weights, [tokens], &device),
            CrossEntropyOptions {
                z_loss: self.z_loss,
                precision: self.precision,
                ..CrossEntropyOptions::default()
            },
        )
    }

    /// Factor of the load-balancing loss in what training minimises, if it has one.
    pub fn balance<B: Kernels>(&self, model: &Decoder<B>) -> Option<f64> {
        let coefficient = model.config().experts.map_or(0.0, |experts| experts.router_aux_loss_coef);
        (coefficient != 0.0).then(|| coefficient * counted(self.batch) * self.scale)
    }
}

/// The loss of a batch and, as its objective, what training minimises: with the z-loss, and the load-balancing
/// loss of a model with experts.
fn forward<B: Kernels>(
    model: &Decoder<B>,
    micro_batch: MicroBatch<'_>,
    device: &B::Device,
) -> CrossEntropyLoss<B> {
    let (hidden, routings) = phase("forward", || model.hidden_and_routing(micro_batch.input(device)));
    let loss = phase("loss", || micro_batch.cross_entropy(model, hidden));
    match micro_batch.balance(model).filter(|_| !routings.is_empty()) {
        Some(factor) => {
            CrossEntropyLoss { objective: loss.objective + load_balancing_loss(&routings) * factor, ..loss }
        }
        None => loss,
    }
}

/// The loss of `model` on a batch, in nats times its `scale`.
pub(crate) fn loss<B: Kernels>(model: &Decoder<B>, micro_batch: MicroBatch<'_>, device: &B::Device) -> f64 {
    scalar(forward(model, micro_batch, device).likelihood)
}

/// Adds the gradients of a batch to `gradients`, in one graph, and returns its loss.
pub(crate) fn backward<B: Kernels>(
    model: &Decoder<Autodiff<B>>,
    micro_batch: MicroBatch<'_>,
    gradients: &mut Gradients<B>,
    device: &B::Device,
) -> f64 {
    let CrossEntropyLoss { likelihood, objective } = forward(model, micro_batch, device);
    let loss = phase("loss", || scalar(likelihood.inner()));
    phase("backward", || gradients.add(model, objective.backward()));
    loss
}

/// Sum of the weights that the positions of a batch have in the loss.
pub(crate) fn counted(batch: &TokenBatch) -> f64 {
    batch.loss_mask.iter().map(|weight| f64::from(*weight)).sum()
}
