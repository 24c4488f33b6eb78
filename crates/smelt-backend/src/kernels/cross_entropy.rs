//! Output head and cross-entropy in one operation: the full logits never exist.
//!
//! Under autodiff the gradients are computed chunk by chunk in the forward pass, while a chunk's
//! logits are there (Hsu et al. 2024, Liger Kernel, arXiv:2410.10989): a loss is the root of the graph,
//! so its backward has only to scale them.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor};

use super::autodiff::{Operation, float, tensor};
use super::linear::{LinearGradients, operand};
use super::{Kernels, QuantizedWeight};
use crate::Precision;

/// How [`Kernels::linear_cross_entropy`] divides its work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropyOptions {
    /// Positions whose logits exist at a time.
    pub chunk_tokens: usize,
    /// Logits become `softcap * tanh(logit / softcap)` (Gemma 2).
    pub softcap: Option<f64>,
    /// Coefficient of the z-loss, `log(Z)^2` per token with `Z` the sum of the exponentials of its logits, which
    /// keeps logits from drifting (Chowdhery et al. 2022, arXiv:2204.02311); 0 for none.
    pub z_loss: f64,
    /// Format of the products in training: a head that is held in f32, as one that is tied to the token vectors is, is
    /// rounded for them.
    pub precision: Precision,
}

impl Default for CrossEntropyOptions {
    fn default() -> Self {
        Self { chunk_tokens: 1024, softcap: None, z_loss: 0.0, precision: Precision::F32 }
    }
}

/// What [`Kernels::linear_cross_entropy`] yields.
#[derive(Debug, Clone)]
pub struct CrossEntropyLoss<B: Kernels> {
    /// Weighted sum of the negative log-likelihoods, `[1]`; a number to report, without a gradient.
    pub likelihood: Tensor<B, 1>,
    /// The same with the z-loss, `[1]`: what is minimised.
    pub objective: Tensor<B, 1>,
}

/// Loss of one chunk of logits.
#[derive(Debug)]
pub struct TokenLoss<B: Kernels> {
    /// Weighted sum of the negative log-likelihoods, `[1]`.
    pub sum: Tensor<B, 1>,
    /// Weighted sum of the z-losses, `[1]`, if there is a coefficient.
    pub z_loss: Option<Tensor<B, 1>>,
    /// The gradient of both for the logits, `[tokens, vocab]`, if asked for.
    pub logits_gradient: Option<Tensor<B, 2>>,
}

/// An output head: the matrix `[vocab, hidden]` and a bias `[vocab]`.
#[derive(Debug, Clone)]
pub struct Head<B: Kernels> {
    /// `[vocab, hidden]`
    pub weight: HeadWeight<B>,
    /// `[vocab]`
    pub bias: Option<Tensor<B, 1>>,
}

impl<B: Kernels> Head<B> {
    /// `[rows, hidden]` -> `[rows, vocab]`
    pub fn logits(self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.weight {
            HeadWeight::Float(weight) => Kernels::linear(hidden, weight, self.bias),
            HeadWeight::Quantized(weight) => Kernels::quantized_linear(hidden, weight, self.bias),
        }
    }
}

/// The matrix of an output head.
#[derive(Debug, Clone)]
pub enum HeadWeight<B: Kernels> {
    /// In floats of any width.
    Float(Tensor<B, 2>),
    /// Packed, and not trained.
    Quantized(QuantizedWeight<B>),
}

impl<B: Kernels> HeadWeight<B> {
    /// In `dtype`, if it is trained and held in f32.
    fn rounded(self, dtype: DType, trained: bool) -> Self {
        match self {
            Self::Float(weight) if trained && weight.dtype() == DType::F32 && dtype != DType::F32 => {
                Self::Float(B::rounded(weight, dtype))
            }
            held => held,
        }
    }

    /// `hidden` as a product with the matrix takes it.
    fn operand(&self, hidden: Tensor<B, 2>, trained: bool) -> Tensor<B, 2> {
        match self {
            Self::Float(weight) => operand(hidden, weight, trained),
            Self::Quantized(_) => hidden,
        }
    }

    /// Gradients for `[hidden, weight, bias]`, each only if `needed`.
    fn backward(&self, hidden: Tensor<B, 2>, grad: Tensor<B, 2>, needed: [bool; 3]) -> LinearGradients<B> {
        match self {
            Self::Float(weight) => B::linear_backward(hidden, weight.clone(), grad, needed),
            Self::Quantized(weight) => LinearGradients {
                bias: needed[2].then(|| grad.clone().sum_dim(0).squeeze_dim(0)),
                x: needed[0].then(|| B::quantized_linear_backward(weight.clone(), grad)),
                weight: None,
            },
        }
    }
}

/// `softcap * tanh(logits / softcap)`; the logits themselves without a cap.
pub fn soft_cap<B: Kernels, const D: usize>(logits: Tensor<B, D>, softcap: Option<f64>) -> Tensor<B, D> {
    match softcap {
        Some(cap) => (logits / cap).tanh() * cap,
        None => logits,
    }
}

/// [`Kernels::linear_cross_entropy`] without gradients.
pub fn chunked<B: Kernels>(
    hidden: Tensor<B, 2>,
    head: Head<B>,
    targets: Tensor<B, 1, Int>,
    token_weights: Tensor<B, 1>,
    options: CrossEntropyOptions,
) -> CrossEntropyLoss<B> {
    chunked_with_gradients(hidden, head, targets, token_weights, options, [false; 3]).0
}

/// The loss, and its gradients for `[hidden, weight, bias]` where `needed`.
pub(super) fn chunked_with_gradients<B: Kernels>(
    hidden: Tensor<B, 2>,
    head: Head<B>,
    targets: Tensor<B, 1, Int>,
    token_weights: Tensor<B, 1>,
    options: CrossEntropyOptions,
    needed: [bool; 3],
) -> (CrossEntropyLoss<B>, Gradients<B>) {
    let [tokens, _] = hidden.dims();
    assert!(tokens > 0 && options.chunk_tokens > 0, "{tokens} tokens in chunks of {}", options.chunk_tokens);
    let with_gradient = needed.contains(&true);
    let head = Head { weight: head.weight.rounded(options.precision.dtype(), needed[1]), ..head };
    let (mut sum, mut z_loss) = (None, None);
    let mut gradients = Gradients { hidden: Vec::new(), weight: None, bias: None };
    for start in (0..tokens).step_by(options.chunk_tokens) {
        let length = options.chunk_tokens.min(tokens - start);
        let rows = hidden.clone().narrow(0, start, length);
        let rows = head.weight.operand(rows, needed[1]);
        let logits = soft_cap(head.clone().logits(rows.clone()), options.softcap);
        let capped = options.softcap.filter(|_| with_gradient).map(|cap| (logits.clone(), cap));
        let chunk_targets = targets.clone().narrow(0, start, length);
        let chunk_weights = token_weights.clone().narrow(0, start, length);
        let loss = B::token_loss(logits, chunk_targets, chunk_weights, options.z_loss, with_gradient);
        sum = add(sum, Some(loss.sum));
        z_loss = add(z_loss, loss.z_loss);
        if let Some(grad) = loss.logits_gradient {
            let grad = capped.map_or(grad.clone(), |(logits, cap)| {
                let ratio = logits / cap;
                grad * (ratio.clone() * ratio * -1.0 + 1.0)
            });
            gradients.add(head.weight.backward(rows, grad, needed));
        }
    }
    let likelihood = sum.expect("at least one chunk");
    let objective = add(Some(likelihood.clone()), z_loss).expect("the likelihood at least");
    (CrossEntropyLoss { likelihood, objective }, gradients)
}

/// Gradients of the loss, those for the hidden states chunk by chunk.
#[derive(Debug, Clone)]
pub(super) struct Gradients<B: Kernels> {
    hidden: Vec<Tensor<B, 2>>,
    weight: Option<Tensor<B, 2>>,
    bias: Option<Tensor<B, 1>>,
}

impl<B: Kernels> Gradients<B> {
    fn add(&mut self, chunk: LinearGradients<B>) {
        self.hidden.extend(chunk.x);
        self.weight = add(self.weight.take(), chunk.weight);
        self.bias = add(self.bias.take(), chunk.bias);
    }

    /// Those for `[hidden, weight, bias]`, times `grad` `[1]`.
    fn scaled(mut self, grad: Tensor<B, 1>) -> [Option<FloatTensor<B>>; 3] {
        let hidden = match self.hidden.len() {
            0 => None,
            1 => self.hidden.pop(),
            _ => Some(Tensor::cat(self.hidden, 0)),
        };
        let scale = |gradient: Tensor<B, 2>| float(gradient * grad.clone().unsqueeze());
        [hidden.map(scale), self.weight.map(scale), self.bias.map(|bias| float(bias * grad.clone()))]
    }
}

fn add<B: Kernels, const D: usize>(
    sum: Option<Tensor<B, D>>,
    part: Option<Tensor<B, D>>,
) -> Option<Tensor<B, D>> {
    match (sum, part) {
        (Some(sum), Some(part)) => Some(sum + part),
        (sum, part) => sum.or(part),
    }
}

/// [`Kernels::token_loss`] in plain burn operations.
pub fn plain<B: Kernels>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    token_weights: Tensor<B, 1>,
    z_loss: f64,
    with_gradient: bool,
) -> TokenLoss<B> {
    let targets = targets.unsqueeze_dim::<2>(1);
    let token_weights = token_weights.unsqueeze_dim::<2>(1);
    let largest = logits.clone().max_dim(1);
    let shifted = logits - largest.clone();
    let picked = shifted.clone().gather(1, targets.clone());
    let exponentials = shifted.exp();
    let total = exponentials.clone().sum_dim(1);
    let log_total = total.clone().log();
    let losses = (log_total.clone() - picked) * token_weights.clone();
    let log_z = (z_loss != 0.0).then(|| log_total + largest);
    let logits_gradient = with_gradient.then(|| {
        let probabilities = exponentials / total;
        let probabilities = match &log_z {
            Some(log_z) => probabilities * (log_z.clone() * (2.0 * z_loss) + 1.0),
            None => probabilities,
        };
        let minus_one = token_weights.ones_like().neg();
        probabilities.scatter(1, targets, minus_one, IndexingUpdateOp::Add) * token_weights.clone()
    });
    let total = |losses: Tensor<B, 2>| losses.sum_dim(0).squeeze_dim(1);
    let z_loss = log_z.map(|log_z| total(log_z.clone() * log_z * token_weights * z_loss));
    TokenLoss { sum: total(losses), z_loss, logits_gradient }
}

/// `linear_cross_entropy` under autodiff: of `[hidden, weight, bias]`, the inputs that there are as tensors. Keeps the
/// finished gradients, and which of them the inputs take.
#[derive(Debug)]
pub(super) struct LinearCrossEntropy;

impl<B: Kernels, const N: usize> Operation<B, N> for LinearCrossEntropy {
    const NAME: &'static str = "linear_cross_entropy";
    type Saved = (Gradients<B>, [usize; N]);

    fn backward(
        (gradients, inputs): Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; N],
    ) -> [Option<FloatTensor<B>>; N] {
        let mut scaled = gradients.scaled(tensor(grad));
        inputs.map(|input| scaled[input].take())
    }
}
