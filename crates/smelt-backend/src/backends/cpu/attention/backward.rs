//! The gradients: one thread takes one key-value head with its group. They are written as projections read them,
//! heads side by side.

use burn::tensor::Tensor;
use burn_flex::Flex;

use super::{Heads, Held, Mask, Scores, TILE, readable};
use crate::backends::cpu::fill::zeros;
use crate::backends::cpu::matrix::{Columns, Destination, Threads, View};
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
    let tensors = [q, k, v, output, grad].map(readable);
    let [q, k, v, output, grad] = tensors.each_ref().map(Heads::of);
    let mut grad_q = zeros(batch * q_len * heads * head_dim);
    let [mut grad_k, mut grad_v] = [(); 2].map(|()| zeros(batch * kv_len * kv_heads * head_dim));
    let rows_of_q = rows_of_heads(&mut grad_q, [batch, q_len, kv_heads], group * head_dim);
    let rows_of_k = rows_of_heads(&mut grad_k, [batch, kv_len, kv_heads], head_dim);
    let rows_of_v = rows_of_heads(&mut grad_v, [batch, kv_len, kv_heads], head_dim);
    let parts = rows_of_q.into_iter().zip(rows_of_k.into_iter().zip(rows_of_v)).enumerate();
    team::for_each(parts, |(index, (mut rows_of_q, (rows_of_k, rows_of_v)))| {
        let (b, kv_head) = (index / kv_heads, index % kv_heads);
        let (k, v) = (k.head(b, kv_head), v.head(b, kv_head));
        let mut packed = PackedHead::default();
        packed.k.hold(k);
        packed.keys.hold(k.transposed());
        packed.values.hold(v.transposed());
        let mut grad_q = vec![0f32; q_len * head_dim];
        let [mut grad_k, mut grad_v] = [(); 2].map(|()| vec![0f32; kv_len * head_dim]);
        for member in 0..group {
            let h = kv_head * group + member;
            let inputs = HeadInputs {
                q: q.head(b, h),
                output: output.head(b, h),
                grad: grad.head(b, h),
                place: [b, h],
            };
            head_backward(&scores, &mut packed, &inputs, [&mut grad_q, &mut grad_k, &mut grad_v]);
            for (row, grad) in rows_of_q.iter_mut().zip(grad_q.chunks_exact(head_dim)) {
                row[member * head_dim..][..head_dim].copy_from_slice(grad);
            }
        }
        for (rows, grad) in [(rows_of_k, grad_k), (rows_of_v, grad_v)] {
            rows.into_iter()
                .zip(grad.chunks_exact(head_dim))
                .for_each(|(row, grad)| row.copy_from_slice(grad));
        }
    });
    AttentionGradients {
        q: from_vec(grad_q, [batch, q_len, heads, head_dim]).swap_dims(1, 2),
        k: from_vec(grad_k, [batch, kv_len, kv_heads, head_dim]).swap_dims(1, 2),
        v: from_vec(grad_v, [batch, kv_len, kv_heads, head_dim]).swap_dims(1, 2),
    }
}

/// For each place in the batch and each head, its rows of `all` `[batch, length, heads, width]`.
fn rows_of_heads(all: &mut [f32], [batch, length, heads]: [usize; 3], width: usize) -> Vec<Vec<&mut [f32]>> {
    let mut rows: Vec<Vec<&mut [f32]>> = (0..batch * heads).map(|_| Vec::with_capacity(length)).collect();
    for (index, row) in all.chunks_exact_mut(width.max(1)).enumerate() {
        rows[index / (length * heads) * heads + index % heads].push(row);
    }
    rows
}

/// What the backward of one head reads.
struct HeadInputs<'a> {
    q: View<'a>,
    output: View<'a>,
    grad: View<'a>,
    place: [usize; 2],
}

/// What the backward of the heads of one group multiplies by, tile after tile.
#[derive(Default)]
struct PackedHead {
    k: Columns,
    /// A key in each column.
    keys: Columns,
    /// A value in each column.
    values: Columns,
    /// Of one tile at a time.
    q: Columns,
    grad: Columns,
}

fn head_backward(
    scores: &Scores<'_>,
    packed: &mut PackedHead,
    inputs: &HeadInputs<'_>,
    [grad_q, grad_k, grad_v]: [&mut [f32]; 3],
) {
    let [b, h] = inputs.place;
    let (q_len, head_dim) = (inputs.q.rows, inputs.q.columns);
    let scale = scores.options.scale as f32;
    let mut p_buffer = vec![0f32; TILE.min(q_len) * scores.kv_len];
    let mut grad_buffer = p_buffer.clone();
    let mut capped = vec![0f32; if scores.options.softcap.is_some() { p_buffer.len() } else { 0 }];
    let mut dropped = vec![0f32; if scores.dropout.is_some() { p_buffer.len() } else { 0 }];
    for (tile, grad_q) in grad_q.chunks_mut(TILE * head_dim).enumerate() {
        let (first, count) = (tile * TILE, grad_q.len() / head_dim);
        let looked_at = scores.looked_at(first..first + count);
        let width = looked_at.len();
        let [q, grad, output] = [inputs.q, inputs.grad, inputs.output].map(|view| view.rows(first, count));
        packed.q.hold(q);
        packed.grad.hold(grad);
        let of_tile = [0..count, 0..head_dim];
        let [grad_k, grad_v] =
            [&mut *grad_k, &mut *grad_v].map(|gradient| &mut gradient[looked_at.start * head_dim..]);

        let p = &mut p_buffer[..count * width];
        scores.raw(p, q, Held::Packed(&packed.keys), &looked_at, Threads::One);
        if !capped.is_empty() {
            capped[..p.len()].copy_from_slice(p);
        }
        let place = |row| [b, h, first + row];
        scores.softmax(p, place, &looked_at);
        let mixed_by = if dropped.is_empty() {
            &*p
        } else {
            let dropped = &mut dropped[..p.len()];
            dropped.copy_from_slice(p);
            scores.drop(dropped, place, &looked_at);
            dropped
        };
        let p_view = View::dense(mixed_by, count, width).transposed();
        packed.grad.product((grad_v, head_dim), Destination::Add, 1.0, p_view, of_tile.clone());

        let grad_scores = &mut grad_buffer[..count * width];
        let of_keys = [0..head_dim, looked_at.clone()];
        packed.values.product((grad_scores, width), Destination::Replace, 1.0, grad, of_keys);
        scores.drop(grad_scores, place, &looked_at);
        let rows = grad_scores.chunks_exact_mut(width).zip(p.chunks_exact(width));
        for (row, (grad_scores, p)) in rows.enumerate() {
            softmax_row_backward(grad_scores, p, grad.row(row), output.row(row));
        }
        if let Some(cap) = scores.options.softcap {
            soft_cap_backward(grad_scores, &capped[..count * width], cap as f32);
        }
        let grad_scores = View::dense(grad_scores, count, width);
        let of_queries = [looked_at, 0..head_dim];
        packed.k.product((grad_q, head_dim), Destination::Replace, scale, grad_scores, of_queries);
        packed.q.product((grad_k, head_dim), Destination::Add, scale, grad_scores.transposed(), of_tile);
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
