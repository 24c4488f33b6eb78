//! Attention by tiles of queries: the `[q_len, kv_len]` matrix of scores never exists.
//!
//! A tile sees only the keys up to its last query, which halves the work of a causal pass. One thread takes
//! one head (forward) or one key-value head with its group (backward), so every sum has a fixed order.

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::matrix::{Destination, Threads, View, product};
use super::simd::{exp, max, sum, sum2, tanh, vectorized};
use super::{contiguous, flex, from_vec, values};
use crate::kernels::{AttentionGradients, AttentionOptions};

/// Queries of a tile.
const TILE: usize = 64;

pub(super) fn forward(
    q: Tensor<Flex, 4>,
    k: Tensor<Flex, 4>,
    v: Tensor<Flex, 4>,
    mask: Option<Tensor<Flex, 4>>,
    options: AttentionOptions,
) -> Tensor<Flex, 4> {
    let [batch, heads, q_len, head_dim] = q.dims();
    let [_, kv_heads, kv_len, _] = k.dims();
    let group = heads / kv_heads;
    let scores = Scores::new(mask, options, q_len, kv_len);
    let [q, k, v] = [q, k, v].map(rows_contiguous);
    let mut output = vec![0f32; batch * heads * q_len * head_dim];
    output.par_chunks_mut((q_len * head_dim).max(1)).enumerate().for_each(|(index, output)| {
        let (b, h) = (index / heads, index % heads);
        let (q, k, v) = (head(&q, b, h), head(&k, b, h / group), head(&v, b, h / group));
        let mut buffer = vec![0f32; TILE.min(q_len) * kv_len];
        for (tile, output) in output.chunks_mut(TILE * head_dim).enumerate() {
            let (first, count) = (tile * TILE, output.len() / head_dim);
            let visible = scores.visible(first + count - 1);
            let p = &mut buffer[..count * visible];
            scores.raw(p, q.rows(first, count), k.first_rows(visible));
            scores.softmax(p, [b, h, first], visible);
            let p = View::dense(p, count, visible);
            product(output, head_dim, Destination::Replace, 1.0, p, v.first_rows(visible), Threads::One);
        }
    });
    from_vec(output, [batch, heads, q_len, head_dim])
}

pub(super) fn backward(
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
    let scores = Scores::new(mask, options, q_len, kv_len);
    let [q, k, v, output, grad] = [q, k, v, output, grad].map(rows_contiguous);
    let (q_size, kv_size) = (q_len * head_dim, kv_len * head_dim);
    let mut grad_q = vec![0f32; batch * heads * q_size];
    let mut grad_k = vec![0f32; batch * kv_heads * kv_size];
    let mut grad_v = vec![0f32; batch * kv_heads * kv_size];
    let gradients = grad_k.par_chunks_mut(kv_size.max(1)).zip(grad_v.par_chunks_mut(kv_size.max(1)));
    grad_q.par_chunks_mut((group * q_size).max(1)).zip(gradients).enumerate().for_each(
        |(index, (grad_q, (grad_k, grad_v)))| {
            let (b, kv_head) = (index / kv_heads, index % kv_heads);
            let (k, v) = (head(&k, b, kv_head), head(&v, b, kv_head));
            for (member, grad_q) in grad_q.chunks_mut(q_size).enumerate() {
                let h = kv_head * group + member;
                let inputs = HeadInputs {
                    q: head(&q, b, h),
                    k,
                    v,
                    output: head(&output, b, h),
                    grad: head(&grad, b, h),
                    place: [b, h],
                };
                scores.head_backward(&inputs, grad_q, grad_k, grad_v);
            }
        },
    );
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

/// A tensor whose last dimension is contiguous; others may be strided.
fn rows_contiguous(tensor: Tensor<Flex, 4>) -> FlexTensor {
    let tensor = flex(tensor);
    let strides = tensor.layout().strides();
    if strides[3] == 1 && strides.iter().all(|stride| *stride >= 0) { tensor } else { tensor.to_contiguous() }
}

/// `[rows, head_dim]` of one head.
fn head(tensor: &FlexTensor, b: usize, h: usize) -> View<'_> {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape(), layout.strides());
    let stride =
        |dim: usize| usize::try_from(strides[dim]).expect("`rows_contiguous` has no negative stride");
    let start = layout.start_offset() + b * stride(0) + h * stride(1);
    View::new(&tensor.storage::<f32>()[start..], [shape[2], shape[3]], [stride(2), 1])
}

/// How scores become probabilities.
struct Scores {
    mask: Option<Mask>,
    options: AttentionOptions,
    kv_len: usize,
    /// Position of query 0 among the keys.
    offset: usize,
}

/// An additive mask whose dimensions of size 1 stand for all.
struct Mask {
    values: FlexTensor,
    shape: [usize; 4],
}

impl Mask {
    /// What is added to the scores of one query: one value per key, or one for all.
    fn row(&self, place: [usize; 3]) -> &[f32] {
        let [_, heads, rows, columns] = self.shape;
        let at = |dim: usize| if self.shape[dim] == 1 { 0 } else { place[dim] };
        let row = (at(0) * heads + at(1)) * rows + at(2);
        &values(&self.values)[row * columns..(row + 1) * columns]
    }
}

impl Scores {
    fn new(mask: Option<Tensor<Flex, 4>>, options: AttentionOptions, q_len: usize, kv_len: usize) -> Self {
        let mask = mask.map(|mask| Mask { shape: mask.dims(), values: contiguous(mask) });
        let offset = if options.causal { kv_len - q_len } else { 0 };
        Self { mask, options, kv_len, offset }
    }

    /// Keys that query `row`, or any before it, may see.
    fn visible(&self, row: usize) -> usize {
        if self.options.causal { self.offset + row + 1 } else { self.kv_len }
    }

    /// Scores before masking, soft-capped.
    fn raw(&self, scores: &mut [f32], q: View<'_>, k: View<'_>) {
        let scale = self.options.scale as f32;
        product(scores, k.rows, Destination::Replace, scale, q, k.transposed(), Threads::One);
        if let Some(cap) = self.options.softcap {
            soft_cap(scores, cap as f32);
        }
    }

    /// Turns the scores of the queries from `first` on into probabilities.
    fn softmax(&self, scores: &mut [f32], [b, h, first]: [usize; 3], visible: usize) {
        for (i, row) in scores.chunks_exact_mut(visible).enumerate() {
            if let Some(mask) = &self.mask {
                match mask.row([b, h, first + i]) {
                    [all] => row.iter_mut().for_each(|score| *score += all),
                    mask => row.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask),
                }
            }
            let end = self.visible(first + i);
            let window = self.options.sliding_window.filter(|_| self.options.causal).unwrap_or(end);
            let start = end.saturating_sub(window);
            row[..start].fill(0.0);
            row[end..].fill(0.0);
            softmax_row(&mut row[start..end]);
        }
    }

    fn head_backward(
        &self,
        inputs: &HeadInputs<'_>,
        grad_q: &mut [f32],
        grad_k: &mut [f32],
        grad_v: &mut [f32],
    ) {
        let [b, h] = inputs.place;
        let (q_len, head_dim) = (inputs.q.rows, inputs.q.columns);
        let scale = self.options.scale as f32;
        let mut p_buffer = vec![0f32; TILE.min(q_len) * self.kv_len];
        let mut grad_buffer = p_buffer.clone();
        let mut capped = vec![0f32; if self.options.softcap.is_some() { p_buffer.len() } else { 0 }];
        for (tile, grad_q) in grad_q.chunks_mut(TILE * head_dim).enumerate() {
            let (first, count) = (tile * TILE, grad_q.len() / head_dim);
            let visible = self.visible(first + count - 1);
            let [q, grad, output] =
                [inputs.q, inputs.grad, inputs.output].map(|view| view.rows(first, count));
            let (k, v) = (inputs.k.first_rows(visible), inputs.v.first_rows(visible));

            let p = &mut p_buffer[..count * visible];
            self.raw(p, q, k);
            if !capped.is_empty() {
                capped[..p.len()].copy_from_slice(p);
            }
            self.softmax(p, [b, h, first], visible);
            let p_view = View::dense(p, count, visible);
            product(grad_v, head_dim, Destination::Add, 1.0, p_view.transposed(), grad, Threads::One);

            let grad_scores = &mut grad_buffer[..count * visible];
            product(grad_scores, visible, Destination::Replace, 1.0, grad, v.transposed(), Threads::One);
            for (row, (grad_scores, p)) in
                grad_scores.chunks_exact_mut(visible).zip(p.chunks_exact(visible)).enumerate()
            {
                softmax_row_backward(grad_scores, p, grad.row(row), output.row(row));
            }
            if let Some(cap) = self.options.softcap {
                soft_cap_backward(grad_scores, &capped[..count * visible], cap as f32);
            }
            let grad_scores = View::dense(grad_scores, count, visible);
            product(grad_q, head_dim, Destination::Replace, scale, grad_scores, k, Threads::One);
            product(grad_k, head_dim, Destination::Add, scale, grad_scores.transposed(), q, Threads::One);
        }
    }
}

vectorized! {
    fn softmax_row(row: &mut [f32]) {
        let largest = max(row);
        for score in row.iter_mut() {
            *score = exp(*score - largest);
        }
        let inverse = 1.0 / sum(row, |x| x);
        for score in row.iter_mut() {
            *score *= inverse;
        }
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
    fn soft_cap(scores: &mut [f32], cap: f32) {
        for score in scores.iter_mut() {
            *score = cap * tanh(*score / cap);
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
