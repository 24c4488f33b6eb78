//! The fused operations that decide speed: one trait, one file per kernel.
//!
//! Each kernel has a default in plain burn operations, which every backend can run and which is the
//! oracle of the tests; a backward written by hand, used by [`Autodiff`](burn_autodiff::Autodiff);
//! and, where it pays, a specialised version in the file of a backend (`src/backends`).
//! Kernels know nothing of models: they take tensors and options.

pub mod activation;
pub mod adamw;
pub mod attention;
mod autodiff;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod layer_norm;
pub mod linear;
pub mod parts;
pub mod positions;
pub mod quantized;
pub mod rms_norm;
pub mod rotary;

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Int, Tensor};

use crate::Precision;

pub use activation::Activation;
pub use adamw::{AdamWFactors, AdamWState, AdamWStep};
pub use attention::{AttentionDropout, AttentionGradients, AttentionOptions, AttentionSegment, KEY_BLOCK};
pub use cross_entropy::{CrossEntropyLoss, CrossEntropyOptions, Head, HeadWeight, TokenLoss, soft_cap};
pub use layer_norm::LayerNormGradients;
pub use linear::LinearGradients;
pub use quantized::{QuantizationError, QuantizationFormat, QuantizedBytes, QuantizedWeight};
pub use rms_norm::RmsNormGradients;
pub use rotary::RotaryStyle;

/// A burn backend with the fused operations of smelt.
///
/// Call them as `Kernels::linear(x, ..)`: the backend follows from the tensors (`B::linear` would be ambiguous
/// with burn's own operation of that name).
///
/// Rows are flattened positions: `[batch, seq, hidden]` enters as `[batch * seq, hidden]`, because burn's
/// batched matmul would broadcast a weight and its gradient once per batch entry.
/// The `*_backward` methods are what `Autodiff<B>` calls; they receive and return tensors of `B`.
///
/// # Panics
/// Kernels assert that shapes fit each other: a mismatch is a broken invariant of the caller.
pub trait Kernels: Backend {
    /// Parameters of `dtype` are used where a file holds them: tensors may lie in mapped memory, and
    /// [`linear`](Kernels::linear) takes such weights beside activations in f32. Those of other dtypes are
    /// converted to f32 once, when they are loaded. Packed weights are u32.
    fn keeps_weights_in(_dtype: DType) -> bool {
        false
    }

    /// Tensors on `device` lie in system memory, where any thread may read them while this one computes.
    ///
    /// Elsewhere work is submitted from one thread: several backends give each thread a queue and a pool of its
    /// own, or allow only one.
    fn is_read_by_any_thread(_device: &Self::Device) -> bool {
        false
    }

    /// Into how many passes one of `sequences` through a model of `weight_bytes` is best divided, that they may run
    /// [`side_by_side`](Kernels::side_by_side): more than 1 where the model is so small that threads meet in each of
    /// its operations for longer than these take.
    fn passes_at_once(_device: &Self::Device, _weight_bytes: u64, _sequences: usize) -> usize {
        1
    }

    /// `work` of every item, in order. Where the caller's threads are the device, they take an item each, and within
    /// it do alone what they would share.
    fn side_by_side<T: Send, R: Send>(
        _device: &Self::Device,
        items: Vec<T>,
        work: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        items.into_iter().map(work).collect()
    }

    /// Training may hold matrices in `precision` ([`linear`](Kernels::linear) says what it computes then).
    fn trains_in(precision: Precision) -> bool {
        precision == Precision::F32
    }

    /// `x` in another dtype, each value rounded to the nearest.
    fn rounded(x: Tensor<Self, 2>, dtype: DType) -> Tensor<Self, 2> {
        x.cast(dtype)
    }

    /// `x weight^T + bias`: `x` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]` -> `[rows, out]`.
    ///
    /// The weight may be in bf16 or f16, and `x` then in the same dtype or in f32. Bias and result are in f32,
    /// and sums are kept in f32 where the backend can. Under autodiff, a weight in 16 bits that is trained has
    /// `x` rounded to its dtype, and so kept for the backward; a frozen one stands for its values.
    fn linear(x: Tensor<Self, 2>, weight: Tensor<Self, 2>, bias: Option<Tensor<Self, 1>>) -> Tensor<Self, 2> {
        linear::plain(x, weight, bias)
    }

    /// Gradients of [`linear`](Kernels::linear) for `[x, weight, bias]`, each only if `needed`, and all in f32.
    ///
    /// `x` in 16 bits asks for products in 16 bits: `grad` is rounded to its dtype first.
    fn linear_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 2>,
        needed: [bool; 3],
    ) -> LinearGradients<Self> {
        linear::plain_backward(x, weight, grad, needed)
    }

    /// `x W^T + bias` for the values `W` `[out, in]` of a quantized weight: `x` `[rows, in]`, `bias` `[out]` ->
    /// `[rows, out]`, all in f32.
    ///
    /// Activations are not rounded: results are those of the values in f32, but for the rounding of sums. `W` never
    /// exists as a whole. Under autodiff, gradients pass to `x` and `bias`.
    fn quantized_linear(
        x: Tensor<Self, 2>,
        weight: QuantizedWeight<Self>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        quantized::plain::linear(x, weight, bias)
    }

    /// [`quantized_linear`](Kernels::quantized_linear) of one `x` with several weights and their biases.
    fn quantized_linears<const N: usize>(
        x: Tensor<Self, 2>,
        weights: [(QuantizedWeight<Self>, Option<Tensor<Self, 1>>); N],
    ) -> [Tensor<Self, 2>; N] {
        weights.map(|(weight, bias)| Self::quantized_linear(x.clone(), weight, bias))
    }

    /// Gradient of [`quantized_linear`](Kernels::quantized_linear) for `x`: `grad W`.
    fn quantized_linear_backward(weight: QuantizedWeight<Self>, grad: Tensor<Self, 2>) -> Tensor<Self, 2> {
        quantized::plain::linear_backward(weight, grad)
    }

    /// Rows of a quantized weight `[ids, features]`: `ids` `[batch, seq]` -> `[batch, seq, features]` in f32.
    ///
    /// Ids must be in the table, as for [`embedding`](Kernels::embedding).
    fn quantized_embedding(weight: QuantizedWeight<Self>, ids: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        quantized::plain::embedding(weight, ids)
    }

    /// All values of a quantized weight, `[out, in]` in f32: `scale * q + bias`, both operations rounded to the format
    /// of the scales, as MLX does it.
    fn dequantized(weight: QuantizedWeight<Self>) -> Tensor<Self, 2> {
        quantized::plain::dequantized(weight)
    }

    /// Rows of `weight` `[ids, features]`: `ids` `[batch, seq]` -> `[batch, seq, features]`.
    ///
    /// Ids must be in the table: some backends read past it silently, so callers check on the host.
    fn embedding(weight: Tensor<Self, 2>, ids: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        embedding::plain(weight, ids)
    }

    /// Gradient of [`embedding`](Kernels::embedding) for `weight`.
    fn embedding_backward(
        weight: Tensor<Self, 2>,
        ids: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        embedding::plain_backward(weight, ids, grad)
    }

    /// Layer normalisation over the last dimension (Ba et al. 2016, arXiv:1607.06450): `x` `[rows, hidden]`.
    fn layer_norm(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        bias: Option<Tensor<Self, 1>>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        layer_norm::plain(x, weight, bias, epsilon)
    }

    /// Gradients of [`layer_norm`](Kernels::layer_norm).
    fn layer_norm_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        grad: Tensor<Self, 2>,
        epsilon: f64,
    ) -> LayerNormGradients<Self> {
        layer_norm::plain_backward(x, weight, grad, epsilon)
    }

    /// Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467): `x` `[rows, hidden]`.
    fn rms_norm(x: Tensor<Self, 2>, weight: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        rms_norm::plain(x, weight, epsilon)
    }

    /// Gradients of [`rms_norm`](Kernels::rms_norm).
    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        grad: Tensor<Self, 2>,
        epsilon: f64,
    ) -> RmsNormGradients<Self> {
        rms_norm::plain_backward(x, weight, grad, epsilon)
    }

    /// Element-wise activation: `x` `[rows, features]`.
    fn activation(x: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        activation::plain(x, kind)
    }

    /// Gradient of [`activation`](Kernels::activation) for `x`.
    fn activation_backward(x: Tensor<Self, 2>, grad: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        activation::plain_derivative(x, kind) * grad
    }

    /// `activation(gate) * up`: SwiGLU and GeGLU (Shazeer 2020, arXiv:2002.05202).
    fn gated(gate: Tensor<Self, 2>, up: Tensor<Self, 2>, kind: Activation) -> Tensor<Self, 2> {
        activation::plain_gated(gate, up, kind)
    }

    /// Gradients of [`gated`](Kernels::gated) for `(gate, up)`.
    fn gated_backward(
        gate: Tensor<Self, 2>,
        up: Tensor<Self, 2>,
        grad: Tensor<Self, 2>,
        kind: Activation,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        activation::plain_gated_backward(gate, up, grad, kind)
    }

    /// `x` divided along `dim` into parts of `sizes`, which add up to all of it.
    ///
    /// Under autodiff, what is differentiated must depend on each part: the gradient of `x` is made of theirs at once.
    fn parts<const D: usize, const N: usize>(
        x: Tensor<Self, D>,
        dim: usize,
        sizes: [usize; N],
    ) -> [Tensor<Self, D>; N] {
        parts::plain(x, dim, sizes)
    }

    /// The reverse of [`parts`](Kernels::parts), which is its gradient.
    fn joined<const D: usize>(parts: Vec<Tensor<Self, D>>, dim: usize) -> Tensor<Self, D> {
        Tensor::cat(parts, dim)
    }

    /// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of `x` `[batch, heads, seq, rotary_dim]`.
    ///
    /// `cos`, `sin`: `[batch or 1, seq, rotary_dim / 2]`. The backward is the rotation by `-sin`.
    fn rotary(
        x: Tensor<Self, 4>,
        cos: Tensor<Self, 3>,
        sin: Tensor<Self, 3>,
        style: RotaryStyle,
    ) -> Tensor<Self, 4> {
        rotary::plain(x, cos, sin, style)
    }

    /// Scaled dot-product attention, grouped queries included.
    ///
    /// `q` `[batch, heads, q_len, head_dim]`; `k`, `v` `[batch, kv_heads, kv_len, head_dim]` with `kv_heads`
    /// dividing `heads`; `mask` is added to the scores and broadcasts to `[batch, heads, q_len, kv_len]`.
    fn attention(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        mask: Option<Tensor<Self, 4>>,
        options: AttentionOptions,
    ) -> Tensor<Self, 4> {
        attention::plain(q, k, v, mask, options)
    }

    /// Attention of several sequences, each to keys and values of its own, without padding.
    ///
    /// `q` `[1, heads, rows, head_dim]`: the new positions of all segments, one segment after the other. Each segment
    /// is as a call of [`attention`](Kernels::attention) without a mask.
    fn attention_over_segments(
        q: Tensor<Self, 4>,
        segments: Vec<AttentionSegment<Self>>,
        options: AttentionOptions,
    ) -> Tensor<Self, 4> {
        attention::one_by_one(q, segments, options)
    }

    /// `buffer` `[batch, heads, room, features]` with the positions `taken` of `rows` `[batch, heads, seq, features]`
    /// at those from `start` on: how a cache grows.
    ///
    /// In place where nobody else holds the buffer and the backend can.
    fn write_positions(
        buffer: Tensor<Self, 4>,
        rows: &Tensor<Self, 4>,
        taken: Range<usize>,
        start: usize,
    ) -> Tensor<Self, 4> {
        positions::plain(buffer, rows, taken, start)
    }

    /// Gradients of [`attention`](Kernels::attention) for `q`, `k` and `v`; `output` is what the forward returned.
    ///
    /// Scores are computed again: the forward keeps no `[q_len, kv_len]` matrix.
    fn attention_backward(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        mask: Option<Tensor<Self, 4>>,
        output: Tensor<Self, 4>,
        grad: Tensor<Self, 4>,
        options: AttentionOptions,
    ) -> AttentionGradients<Self> {
        attention::plain_backward(q, k, v, mask, output, grad, options)
    }

    /// `sum_i token_weights[i] * -log softmax(logits[i])[targets[i]]`, where
    /// `logits = hidden weight^T + bias`, soft-capped if the options say so, and the same with the z-loss.
    ///
    /// `hidden` `[tokens, hidden]`, `targets` and `token_weights` `[tokens]`.
    /// Logits exist for `options.chunk_tokens` positions at a time.
    fn linear_cross_entropy(
        hidden: Tensor<Self, 2>,
        head: Head<Self>,
        targets: Tensor<Self, 1, Int>,
        token_weights: Tensor<Self, 1>,
        options: CrossEntropyOptions,
    ) -> CrossEntropyLoss<Self> {
        cross_entropy::chunked(hidden, head, targets, token_weights, options)
    }

    /// Weighted cross-entropy of one chunk of logits `[tokens, vocab]` and, if `z_loss` is not 0, the z-loss with
    /// that coefficient; with the gradient of their sum if `with_gradient`.
    fn token_loss(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        token_weights: Tensor<Self, 1>,
        z_loss: f64,
        with_gradient: bool,
    ) -> TokenLoss<Self> {
        cross_entropy::plain(logits, targets, token_weights, z_loss, with_gradient)
    }

    /// Sets each element to zero with `probability` and scales the rest by `1 / (1 - probability)`.
    ///
    /// The pattern depends on `seed`, the shape and the backend alone.
    fn dropout(x: Tensor<Self, 2>, probability: f64, seed: u64) -> Tensor<Self, 2> {
        let mask = dropout::scaled_mask(x.dims(), probability, seed, &x.device());
        x * mask
    }

    /// One AdamW update (Loshchilov and Hutter 2019, arXiv:1711.05101) of one parameter of any rank.
    fn adamw_step(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        state: AdamWState<Self>,
        step: &AdamWStep,
    ) -> (FloatTensor<Self>, AdamWState<Self>) {
        adamw::plain(parameter, gradient, state, step)
    }
}
