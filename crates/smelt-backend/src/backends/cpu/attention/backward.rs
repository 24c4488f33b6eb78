//! The gradients: one thread takes one key-value head with its group.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::{Heads, Mask, Scores, TILE};
use crate::backends::cpu::matrix::{Destination, Threads, View, product};
use crate::backends::cpu::simd::{sum2, vectorized};
use crate::backends::cpu::{from_vec, team};
use crate::kernels::{AttentionGradients, AttentionOptions};

/// As `Kernels::attention_backward`.
pub(in super::super) fn backward(
    q: Tensor<Flex, 4>,
    k: Tensor<Flex, 4>,
    v: Tensor<Flex, 4>,
    mask: Option<Tensor<Flex, 4>>,
    output: Tensor<Flex, 4>,
    grad: Tensor<Flex, 4>,
    options: AttentionOptions,
) -> AttentionGradients<Flex> {
    let [batch, heads, q_len, head_dim] = q.dims();
    let [_, kv_heads, kv_len, _] = k.dims();
    let group = heads / kv_heads;
    let mask = mask.map(Mask::of);
    let scores = Scores::new(mask.as_ref(), options, q_len, kv_len);
    let [q, k, v, output, grad] = [q, k, v, output, grad].map(Heads::of);
    let (q_size, kv_size) = (q_len * head_dim, kv_len * head_dim);
    let mut grad_q = vec![0f32; batch * heads * q_size];
    let mut grad_k = vec![0f32; batch * kv_heads * kv_size];
    let mut grad_v = vec![0f32; batch * kv_heads * kv_size];
    let gradients = grad_k.chunks_mut(kv_size.max(1)).zip(grad_v.chunks_mut(kv_size.max(1)));
    let parts = grad_q.chunks_mut((group * q_size).max(1)).zip(gradients).enumerate();
    team::for_each(parts, |(index, (grad_q, (grad_k, grad_v)))| {
        let (b, kv_head) = (index / kv_heads, index % kv_heads);
        let (k, v) = (k.head(b, kv_head), v.head(b, kv_head));
        for (member, grad_q) in grad_q.chunks_mut(q_size).enumerate() {
            let h = kv_head * group + member;
            let inputs = HeadInputs {
                q: q.head(b, h),
                k,
                v,
                output: output.head(b, h),
                grad: grad.head(b, h),
                place: [b, h],
            };
            head_backward(&scores, &inputs, grad_q, grad_k, grad_v);
        }
    });
    AttentionGradients {
        q: from_vec(grad_q, [batch, heads, q_len, head_dim]),
        k: from_vec(grad_k, [batch, kv_heads, kv_len, head_dim]),
        v: from_vec(grad_v, [batch, kv_heads, kv_len, head_dim]),
    }
}

/// What the backward of one head reads.
struct HeadInputs<'a> {
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    output: View<'a>,
    grad: View<'a>,
    place: [usize; 2],
}

fn head_backward(
    scores: &Scores<'_>,
    inputs: &HeadInputs<'_>,
    grad_q: &mut [f32],
    grad_k: &mut [f32],
    grad_v: &mut [f32],
) {
    let [b, h] = inputs.place;
    let (q_len, head_dim) = (inputs.q.rows, inputs.q.columns);
    let scale = scores.options.scale as f32;
    let mut p_buffer = vec![0f32; TILE.min(q_len) * scores.kv_len];
    let mut grad_buffer = p_buffer.clone();
    let mut capped = vec![0f32; if scores.options.softcap.is_some() { p_buffer.len() } else { 0 }];
    for (tile, grad_q) in grad_q.chunks_mut(TILE * head_dim).enumerate() {
        let (first, count) = (tile * TILE, grad_q.len() / head_dim);
        let looked_at = scores.looked_at(first..first + count);
        let width = looked_at.len();
        let [q, grad, output] = [inputs.q, inputs.grad, inputs.output].map(|view| view.rows(first, count));
        let [k, v] = [inputs.k, inputs.v].map(|view| view.rows(looked_at.start, width));
        let [grad_k, grad_v] =
            [&mut *grad_k, &mut *grad_v].map(|gradient| &mut gradient[looked_at.start * head_dim..]);

        let p = &mut p_buffer[..count * width];
        scores.raw(p, q, k, Threads::One);
        if !capped.is_empty() {
            capped[..p.len()].copy_from_slice(p);
        }
        for (row, p) in p.chunks_exact_mut(width).enumerate() {
            scores.softmax(p, [b, h, first + row], &looked_at);
        }
        let p_view = View::dense(p, count, width);
        product(grad_v, head_dim, Destination::Add, 1.0, p_view.transposed(), grad, Threads::One);

        let grad_scores = &mut grad_buffer[..count * width];
        product(grad_scores, width, Destination::Replace, 1.0, grad, v.transposed(), Threads::One);
        let rows = grad_scores.chunks_exact_mut(width).zip(p.chunks_exact(width));
        for (row, (grad_scores, p)) in rows.enumerate() {
            softmax_row_backward(grad_scores, p, grad.row(row), output.row(row));
        }
        if let Some(cap) = scores.options.softcap {
            soft_cap_backward(grad_scores, &capped[..count * width], cap as f32);
        }
        let grad_scores = View::dense(grad_scores, count, width);
        product(grad_q, head_dim, Destination::Replace, scale, grad_scores, k, Threads::One);
        product(grad_k, head_dim, Destination::Add, scale, grad_scores.transposed(), q, Threads::One);
    }
}

vectorized! {
    /// From the gradient of the probabilities to that of the scores: `p (dp - sum p dp)`, where the sum is
    /// the row's `grad . output` (Dao et al. 2022, arXiv:2205.14135).
    fn softmax_row_backward(grad_scores: &mut [f32], p: &[f32], grad: &[f32], output: &[f32]) {
        let along = sum2(grad, output, |a, b| a * b);
        for (grad, p) in grad_scores.iter_mut().zip(p) {
            *grad = p * (*grad - along);
        }
    }
}

vectorized! {
    fn soft_cap_backward(grad_scores: &mut [f32], capped: &[f32], cap: f32) {
        for (grad, capped) in grad_scores.iter_mut().zip(capped) {
            let ratio = capped / cap;
            *grad *= 1.0 - ratio * ratio;
        }
    }
}
