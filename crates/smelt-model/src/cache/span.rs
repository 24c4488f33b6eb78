//! A stretch of a sequence's keys and values, kept apart from any cache.

use std::ops::Range;

use burn::tensor::backend::Backend;

use super::rows::SpanRows;

/// Keys and values of consecutive positions in all layers.
#[derive(Debug, Clone)]
pub struct KvSpan<B: Backend> {
    /// Keys and values of each layer.
    layers: Vec<[SpanRows<B>; 2]>,
    len: usize,
}

impl<B: Backend> KvSpan<B> {
    pub(super) fn new(layers: Vec<[SpanRows<B>; 2]>, len: usize) -> Self {
        Self { layers, len }
    }

    pub(super) fn layers(&self) -> &[[SpanRows<B>; 2]] {
        &self.layers
    }

    /// Positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// It holds no position.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().flatten().map(|rows| rows.bytes() as u64).sum()
    }

    /// A copy of the positions `range`.
    pub fn part(&self, range: Range<usize>) -> Self {
        let part = |layer: &[SpanRows<B>; 2]| layer.each_ref().map(|rows| rows.part(range.clone()));
        Self { layers: self.layers.iter().map(part).collect(), len: range.len() }
    }
}
