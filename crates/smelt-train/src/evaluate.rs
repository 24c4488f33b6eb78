//! Validation loss.

use serde::{Deserialize, Serialize};
use smelt_backend::{Kernels, Precision, scoped};
use smelt_data::TokenBatch;
use smelt_model::Decoder;

use crate::loss::{MicroBatch, counted, loss};

/// What an evaluation found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean negative log-likelihood per counted token, in nats.
    pub loss: f64,
    /// Tokens that counted.
    pub tokens: f64,
}

impl Evaluation {
    /// `exp(loss)`.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// The token-weighted loss of `model` on `batches`; `None` if no token counts.
pub fn evaluate<B: Kernels>(
    model: &Decoder<B>,
    batches: impl IntoIterator<Item = TokenBatch>,
    device: &B::Device,
) -> Option<Evaluation> {
    let (mut sum, mut tokens) = (0.0, 0.0);
    for batch in batches {
        let count = counted(&batch);
        if count > 0.0 {
            let micro_batch = MicroBatch {
                batch: &batch,
                scale: 1.0 / count,
                z_loss: 0.0,
                precision: Precision::F32,
                dropout: None,
            };
            sum += count * scoped(|| loss(model, micro_batch, device));
            tokens += count;
        }
    }
    (tokens > 0.0).then(|| Evaluation { loss: sum / tokens, tokens })
}
