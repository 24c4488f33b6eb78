//! Attention by tiles of queries: the `[q_len, kv_len]` matrix of scores never exists.
//!
//! A tile sees only the keys from its first query's window up to its last query, which halves the work of a causal
//! pass. Every sum has a fixed order, that of the matrix products: what a query gets does not depend on the tile
//! it is in, so a cached step gives the same as a pass over the whole sequence.

mod backward;
mod dropout;
mod forward;

use std::ops::Range;

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};

use super::heads::{Heads, readable};
use super::matrix::{BLOCK_K, Columns, Destination, Threads, View, product};
use super::simd::{tanh, vectorized};
use super::{contiguous, values};
use crate::exp;
use crate::kernels::{AttentionOptions, KEY_BLOCK};
use crate::vectorized::{LANES, reduce};

use dropout::Dropout;

pub(super) use backward::backward;
pub(super) use forward::{forward, over_segments};

// Products along keys are chains of this length.
const _: () = assert!(KEY_BLOCK.is_multiple_of(BLOCK_K));

/// Most queries of a tile: whole tiles of the products, and few that see keys which others of the tile do not.
const TILE: usize = 48;

/// Keys, each a column where they are packed, or values of one head, each a row.
#[derive(Clone, Copy)]
enum Held<'a> {
    /// For one tile: a row each.
    AsTheyLie(View<'a>),
    /// Once for all tiles.
    Packed(&'a Columns),
}

/// How scores become probabilities.
struct Scores<'a> {
    dropout: Option<Dropout>,
    mask: Option<&'a Mask>,
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
    fn of(mask: Tensor<Flex, 4>) -> Self {
        Self { shape: mask.dims(), values: contiguous(mask) }
    }

    /// What is added to the scores of one query: one value per key, or one for all.
    fn row(&self, place: [usize; 3]) -> &[f32] {
        let [_, heads, rows, columns] = self.shape;
        let at = |dim: usize| if self.shape[dim] == 1 { 0 } else { place[dim] };
        let row = (at(0) * heads + at(1)) * rows + at(2);
        &values(&self.values)[row * columns..(row + 1) * columns]
    }
}

impl<'a> Scores<'a> {
    fn new(mask: Option<&'a Mask>, options: AttentionOptions, q_len: usize, kv_len: usize) -> Self {
        let offset = if options.causal { kv_len - q_len } else { 0 };
        Self { dropout: options.dropout.map(Dropout::new), mask, options, kv_len, offset }
    }

    /// Keys that query `row` sees.
    fn seen(&self, row: usize) -> Range<usize> {
        let end = if self.options.causal { self.offset + row + 1 } else { self.kv_len };
        let window = self.options.sliding_window.filter(|_| self.options.causal).unwrap_or(end);
        end.saturating_sub(window)..end
    }

    /// Keys that a tile looks at: all that its queries see, from where a chain of the products begins.
    fn looked_at(&self, rows: Range<usize>) -> Range<usize> {
        let (first, last) = (self.seen(rows.start), self.seen(rows.end - 1));
        first.start / BLOCK_K * BLOCK_K..last.end
    }

    /// Scores of some queries and the keys `looked_at` before masking, soft-capped.
    fn raw(&self, scores: &mut [f32], q: View<'_>, k: Held<'_>, looked_at: &Range<usize>, threads: Threads) {
        let (scale, width) = (self.options.scale as f32, looked_at.len());
        match k {
            Held::AsTheyLie(k) => {
                let k = k.rows(looked_at.start, width).transposed();
                product(scores, width, Destination::Replace, scale, q, k, threads);
            }
            Held::Packed(k) => {
                let part = [0..q.columns, looked_at.clone()];
                k.product((scores, width), Destination::Replace, scale, q, part);
            }
        }
        self.cap(scores);
    }

    fn cap(&self, scores: &mut [f32]) {
        if let Some(cap) = self.options.softcap {
            soft_cap(scores, cap as f32);
        }
    }

    /// Turns scores of queries for the keys `looked_at` into probabilities; `place` says where a row of `scores` is in
    /// batch, heads and sequence.
    fn softmax(&self, scores: &mut [f32], place: impl Fn(usize) -> [usize; 3], looked_at: &Range<usize>) {
        let width = looked_at.len();
        if let Some(mask) = &self.mask {
            for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
                match mask.row(place(row)) {
                    [all] => scores.iter_mut().for_each(|score| *score += all),
                    mask => {
                        let mask = &mask[looked_at.clone()];
                        scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
                    }
                }
            }
        }
        softmax_rows(scores, width, |row| {
            let [.., row] = place(row);
            let Range { start, end } = self.seen(row);
            start - looked_at.start..end - looked_at.start
        });
    }

    /// Drops some of `numbers`, of which each row is one of scores, the same ones every time.
    fn drop(&self, numbers: &mut [f32], place: impl Fn(usize) -> [usize; 3], looked_at: &Range<usize>) {
        if let Some(dropout) = self.dropout {
            for (row, numbers) in numbers.chunks_exact_mut(looked_at.len()).enumerate() {
                dropout.drop(numbers, place(row), looked_at.start);
            }
        }
    }
}

vectorized! {
    /// Turns rows of scores, each `width` wide, into probabilities: of what `seen` says, and 0 for the rest.
    fn softmax_rows<S: Fn(usize) -> Range<usize>>(scores: &mut [f32], width: usize, seen: S) {
        for row in 0..scores.len() / width {
            let (scores, Range { start, end }) = (&mut scores[row * width..], seen(row));
            scores[..start].fill(0.0);
            scores[end..width].fill(0.0);
            softmax_row(&mut scores[start..], end - start);
        }
    }
}

/// Turns the first `count` scores into probabilities; there may be more behind them.
#[inline(always)]
fn softmax_row(scores: &mut [f32], count: usize) {
    let (whole, rest) = scores.split_at_mut(count / LANES * LANES);
    let (whole, left) = (whole.as_chunks_mut::<LANES>().0, count % LANES);
    // What does not fill a register is computed in one all the same: number by number, it would take longer than the
    // rest of a short row.
    let mut last = [f32::NEG_INFINITY; LANES];
    match rest.first_chunk::<LANES>() {
        Some(rest) => {
            for (lane, (to, score)) in last.iter_mut().zip(rest).enumerate() {
                *to = if lane < left { *score } else { f32::NEG_INFINITY };
            }
        }
        None => last[..left].copy_from_slice(&rest[..left]),
    }
    let mut lanes = last;
    for chunk in &*whole {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    let largest = reduce(lanes, |a, b| if b > a { b } else { a });
    let mut sums = [0f32; LANES];
    for chunk in whole.iter_mut() {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    for (sum, score) in sums.iter_mut().zip(&mut last) {
        *score = exp(*score - largest);
        *sum += *score;
    }
    let inverse = 1.0 / reduce(sums, |a, b| a + b);
    for weight in whole.as_flattened_mut() {
        *weight *= inverse;
    }
    for weight in &mut last {
        *weight *= inverse;
    }
    match rest.first_chunk_mut::<LANES>() {
        Some(rest) => {
            for (lane, (to, weight)) in rest.iter_mut().zip(last).enumerate() {
                *to = if lane < left { weight } else { *to };
            }
        }
        None => rest[..left].copy_from_slice(&last[..left]),
    }
}

vectorized! {
    fn soft_cap(scores: &mut [f32], cap: f32) {
        for score in scores.iter_mut() {
            *score = cap * tanh(*score / cap);
        }
    }
}
