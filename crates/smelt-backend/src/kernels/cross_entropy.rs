//! Output head and cross-entropy in one operation: the full logits never exist.
//!
//! Under autodiff the gradients are computed chunk by chunk in the forward pass, while a chunk's
//! logits are there (Hsu et al. 2024, Liger Kernel, arXiv:2410.10989): a loss is the root of the graph,
//! so its backward has only to scale them.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// How [`Kernels::linear_cross_entropy`] divides its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossEntropyOptions {
    /// Positions whose logits exist at a time.
    pub chunk_tokens: usize,
}

impl Default for CrossEntropyOptions {
    fn default() -> Self {
        Self { chunk_tokens: 1024 }
    }
}

/// Loss of one chunk of logits.
#[derive(Debug)]
pub struct TokenLoss<B: Kernels> {
    /// Weighted sum of the negative log-likelihoods, `[1]`.
    pub sum: Tensor<B, 1>,
    /// Its gradient for the logits, `[tokens, vocab]`, if asked for.
    pub logits_gradient: Option<Tensor<B, 2>>,
}

/// Gradients of the loss for hidden states `[tokens, hidden]` and head `[vocab, hidden]`.
pub(super) type Gradients<B> = (Option<Tensor<B, 2>>, Option<Tensor<B, 2>>);

/// [`Kernels::linear_cross_entropy`] without gradients.
pub fn chunked<B: Kernels>(
    hidden: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    token_weights: Tensor<B, 1>,
    options: CrossEntropyOptions,
) -> Tensor<B, 1> {
    chunked_with_gradients(hidden, weight, targets, token_weights, options, [false; 2]).0
}

/// The loss, and its gradients for `[hidden, weight]` where `needed`.
pub(super) fn chunked_with_gradients<B: Kernels>(
    hidden: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    token_weights: Tensor<B, 1>,
    options: CrossEntropyOptions,
    needed: [bool; 2],
) -> (Tensor<B, 1>, Gradients<B>) {
    let [tokens, _] = hidden.dims();
    assert!(tokens > 0 && options.chunk_tokens > 0, "{tokens} tokens in chunks of {}", options.chunk_tokens);
    let with_gradient = needed.contains(&true);
    let mut sum: Option<Tensor<B, 1>> = None;
    let mut grad_hidden = Vec::new();
    let mut grad_weight: Option<Tensor<B, 2>> = None;
    for start in (0..tokens).step_by(options.chunk_tokens) {
        let length = options.chunk_tokens.min(tokens - start);
        let rows = hidden.clone().narrow(0, start, length);
        let logits = Kernels::linear(rows.clone(), weight.clone(), None);
        let chunk_targets = targets.clone().narrow(0, start, length);
        let chunk_weights = token_weights.clone().narrow(0, start, length);
        let loss = B::token_loss(logits, chunk_targets, chunk_weights, with_gradient);
        sum = Some(sum.map_or_else(|| loss.sum.clone(), |sum| sum + loss.sum.clone()));
        if let Some(grad) = loss.logits_gradient {
            let gradients = B::linear_backward(rows, weight.clone(), grad, [needed[0], needed[1], false]);
            grad_hidden.extend(gradients.x);
            grad_weight = match (grad_weight, gradients.weight) {
                (Some(sum), Some(chunk)) => Some(sum + chunk),
                (sum, chunk) => sum.or(chunk),
            };
        }
    }
    let grad_hidden = needed[0].then(|| match grad_hidden.len() {
        1 => grad_hidden.remove(0),
        _ => Tensor::cat(grad_hidden, 0),
    });
    (sum.expect("at least one chunk"), (grad_hidden, grad_weight))
}

/// [`Kernels::token_loss`] in plain burn operations.
pub fn plain<B: Kernels>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    token_weights: Tensor<B, 1>,
    with_gradient: bool,
) -> TokenLoss<B> {
    let targets = targets.unsqueeze_dim::<2>(1);
    let token_weights = token_weights.unsqueeze_dim::<2>(1);
    let shifted = logits.clone() - logits.max_dim(1);
    let picked = shifted.clone().gather(1, targets.clone());
    let exponentials = shifted.exp();
    let total = exponentials.clone().sum_dim(1);
    let losses = (total.clone().log() - picked) * token_weights.clone();
    let logits_gradient = with_gradient.then(|| {
        let probabilities = exponentials / total;
        let minus_one = token_weights.ones_like().neg();
        probabilities.scatter(1, targets, minus_one, IndexingUpdateOp::Add) * token_weights
    });
    TokenLoss { sum: losses.sum_dim(0).squeeze_dim(1), logits_gradient }
}

/// `linear_cross_entropy` under autodiff: inputs `[hidden, weight]`; keeps the finished gradients.
#[derive(Debug)]
pub(super) struct LinearCrossEntropy;

impl<B: Kernels> Operation<B, 2> for LinearCrossEntropy {
    type Saved = Gradients<B>;

    fn backward(
        (hidden, weight): Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let grad: Tensor<B, 1> = tensor(grad);
        let scaled = |gradient: Tensor<B, 2>| float(gradient * grad.clone().unsqueeze());
        [hidden.map(scaled), weight.map(scaled)]
    }
}
