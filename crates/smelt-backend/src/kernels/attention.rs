//! Scaled dot-product attention with grouped queries, causal and windowed masks, and soft-capped scores.
//!
//! Queries of one key-value head are stacked as rows (`[batch, kv_heads, group * q_len, head_dim]`),
//! so that keys and values are never repeated.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Bool, Int, Tensor, activation};

use super::autodiff::{Operation, float, tensor};
use super::{Kernels, dropout};

/// What [`Kernels::attention`] does besides the product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOptions {
    /// Multiplies the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f64,
    /// Query `i` sees keys up to position `kv_len - q_len + i`.
    pub causal: bool,
    /// With `causal`: a query sees itself and the `sliding_window - 1` keys before.
    pub sliding_window: Option<usize>,
    /// Scores become `softcap * tanh(score / softcap)` before masking (Gemma 2).
    pub softcap: Option<f64>,
    /// Sets probabilities to zero, in training.
    pub dropout: Option<AttentionDropout>,
}

/// Dropout of attention probabilities: each is zero with `probability`, and the rest is scaled by
/// `1 / (1 - probability)`. Which ones depends on the seed, on the lengths and the backend alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionDropout {
    /// In `[0, 1)`.
    pub probability: f64,
    /// Another one for every call, but for the call that runs again for its gradient.
    pub seed: u64,
}

/// Sums over keys are divided at multiples of this: a query that sees the same keys gets the same to the last bit, where
/// a backend promises that, if the first of them that is handed in lies at a multiple in its sequence.
pub const KEY_BLOCK: usize = 256;

/// One sequence of [`Kernels::attention_over_segments`].
#[derive(Debug, Clone)]
pub struct AttentionSegment<B: Backend> {
    /// Rows of the query that belong to it; they are its last positions.
    pub rows: usize,
    /// `[1, kv_heads, room, head_dim]`
    pub keys: Tensor<B, 4>,
    /// As `keys`.
    pub values: Tensor<B, 4>,
    /// The positions of `keys` and `values` that count.
    pub visible: Range<usize>,
}

/// Gradients of [`Kernels::attention`], in the shapes of its inputs.
#[derive(Debug)]
pub struct AttentionGradients<B: Kernels> {
    /// `[batch, heads, q_len, head_dim]`
    pub q: Tensor<B, 4>,
    /// `[batch, kv_heads, kv_len, head_dim]`
    pub k: Tensor<B, 4>,
    /// `[batch, kv_heads, kv_len, head_dim]`
    pub v: Tensor<B, 4>,
}

/// Lengths of one call.
#[derive(Clone, Copy)]
struct Dims {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    q_len: usize,
    kv_len: usize,
    head_dim: usize,
}

impl Dims {
    fn of<B: Kernels>(q: &Tensor<B, 4>, k: &Tensor<B, 4>) -> Self {
        let [batch, heads, q_len, head_dim] = q.dims();
        let [_, kv_heads, kv_len, _] = k.dims();
        assert!(heads.is_multiple_of(kv_heads), "{heads} query heads for {kv_heads} key-value heads");
        Self { batch, heads, kv_heads, q_len, kv_len, head_dim }
    }

    /// Stacks the queries of one key-value head as rows.
    fn grouped<B: Kernels>(self, t: Tensor<B, 4>) -> Tensor<B, 4> {
        let width = t.dims()[3];
        t.reshape([self.batch, self.kv_heads, self.heads / self.kv_heads * self.q_len, width])
    }

    fn ungrouped<B: Kernels>(self, t: Tensor<B, 4>) -> Tensor<B, 4> {
        let width = t.dims()[3];
        t.reshape([self.batch, self.heads, self.q_len, width])
    }
}

/// Softmax probabilities, and the soft-capped scores before masking if there is a cap.
fn probabilities<B: Kernels>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    mask: Option<Tensor<B, 4>>,
    options: AttentionOptions,
    dims: Dims,
) -> (Tensor<B, 4>, Option<Tensor<B, 4>>) {
    let device = q.device();
    let scores = dims.ungrouped(dims.grouped(q * options.scale).matmul(k.swap_dims(2, 3)));
    let capped = options.softcap.map(|cap| (scores.clone() / cap).tanh() * cap);
    let mut scores = capped.clone().unwrap_or(scores);
    if let Some(mask) = mask {
        scores = scores + mask;
    }
    if let Some(hidden) = hidden_positions::<B>(options, dims, &device) {
        scores = scores.mask_fill(hidden.unsqueeze(), f32::NEG_INFINITY);
    }
    (activation::softmax(scores, 3), capped)
}

/// `[q_len, kv_len]`, true where a key must not be seen; `None` if every key may.
fn hidden_positions<B: Kernels>(
    options: AttentionOptions,
    dims: Dims,
    device: &B::Device,
) -> Option<Tensor<B, 2, Bool>> {
    let window = options.sliding_window.filter(|window| *window < dims.kv_len);
    if !options.causal || (dims.q_len == 1 && window.is_none()) {
        return None;
    }
    let offset = (dims.kv_len - dims.q_len) as i64;
    let shape = [dims.q_len, dims.kv_len];
    let queries = Tensor::<B, 1, Int>::arange(offset..offset + dims.q_len as i64, device)
        .unsqueeze_dim::<2>(1)
        .expand(shape);
    let keys = Tensor::<B, 1, Int>::arange(0..dims.kv_len as i64, device).unsqueeze_dim::<2>(0).expand(shape);
    let later = keys.clone().greater(queries.clone());
    Some(match window {
        Some(window) => later.bool_or(keys.lower_equal(queries - window as i64)),
        None => later,
    })
}

/// [`Kernels::attention`] in plain burn operations.
pub fn plain<B: Kernels>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    mask: Option<Tensor<B, 4>>,
    options: AttentionOptions,
) -> Tensor<B, 4> {
    let dims = Dims::of(&q, &k);
    let (probabilities, _) = probabilities(q, k, mask, options, dims);
    let probabilities = match dropout_mask(options, dims, &v.device()) {
        Some(mask) => probabilities * mask,
        None => probabilities,
    };
    dims.ungrouped(dims.grouped(probabilities).matmul(v))
}

/// What probabilities `[batch, heads, q_len, kv_len]` are multiplied by, if some are dropped.
fn dropout_mask<B: Kernels>(
    options: AttentionOptions,
    dims: Dims,
    device: &B::Device,
) -> Option<Tensor<B, 4>> {
    let AttentionDropout { probability, seed } = options.dropout?;
    let Dims { batch, heads, q_len, kv_len, .. } = dims;
    let mask = dropout::scaled_mask([batch * heads * q_len, kv_len], probability, seed, device);
    Some(mask.reshape([batch, heads, q_len, kv_len]))
}

/// [`Kernels::attention_over_segments`], one segment after the other.
pub fn one_by_one<B: Kernels>(
    q: Tensor<B, 4>,
    segments: Vec<AttentionSegment<B>>,
    options: AttentionOptions,
) -> Tensor<B, 4> {
    let mut start = 0;
    let outputs = segments.into_iter().map(|AttentionSegment { rows, keys, values, visible }| {
        let queries = q.clone().narrow(2, start, rows);
        let [keys, values] = [keys, values].map(|held| held.narrow(2, visible.start, visible.len()));
        start += rows;
        Kernels::attention(queries, keys, values, None, options)
    });
    let mut outputs: Vec<_> = outputs.collect();
    if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(outputs, 2) }
}

/// [`Kernels::attention_backward`] in plain burn operations.
pub fn plain_backward<B: Kernels>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    mask: Option<Tensor<B, 4>>,
    output: Tensor<B, 4>,
    grad: Tensor<B, 4>,
    options: AttentionOptions,
) -> AttentionGradients<B> {
    let dims = Dims::of(&q, &k);
    let (p, capped) = probabilities(q.clone(), k.clone(), mask, options, dims);
    let dropped = dropout_mask(options, dims, &q.device());
    let kept = |values: Tensor<B, 4>| match &dropped {
        Some(mask) => values * mask.clone(),
        None => values,
    };
    let grad_v = dims.grouped(kept(p.clone())).swap_dims(2, 3).matmul(dims.grouped(grad.clone()));
    // sum_j p_ij dp_ij is the row's grad . output (Dao et al. 2022, arXiv:2205.14135).
    let along = (grad.clone() * output).sum_dim(3);
    let grad_p = kept(dims.ungrouped(dims.grouped(grad).matmul(v.swap_dims(2, 3))));
    let mut grad_scores = p * (grad_p - along);
    if let (Some(capped), Some(cap)) = (capped, options.softcap) {
        let ratio = capped / cap;
        grad_scores = grad_scores * (ratio.clone() * ratio * -1.0 + 1.0);
    }
    let grad_scores = dims.grouped(grad_scores * options.scale);
    let grad_k = grad_scores.clone().swap_dims(2, 3).matmul(dims.grouped(q));
    let grad_q = dims.ungrouped(grad_scores.matmul(k));
    debug_assert_eq!(grad_q.dims()[3], dims.head_dim);
    AttentionGradients { q: grad_q, k: grad_k, v: grad_v }
}

/// What attention keeps for its backward.
#[derive(Debug, Clone)]
pub(super) struct Saved<B: Kernels> {
    pub q: Tensor<B, 4>,
    pub k: Tensor<B, 4>,
    pub v: Tensor<B, 4>,
    pub mask: Option<Tensor<B, 4>>,
    pub output: Tensor<B, 4>,
    pub options: AttentionOptions,
}

/// `attention` under autodiff: inputs `[q, k, v]`.
#[derive(Debug)]
pub(super) struct Attention;

impl<B: Kernels> Operation<B, 3> for Attention {
    const NAME: &'static str = "attention";
    type Saved = Saved<B>;

    fn backward(
        Saved { q, k, v, mask, output, options }: Saved<B>,
        grad: FloatTensor<B>,
        _needed: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let gradients = B::attention_backward(q, k, v, mask, output, tensor(grad), options);
        [gradients.q, gradients.k, gradients.v].map(|gradient| Some(float(gradient)))
    }
}
