//! Heads as they lie: what a projection leaves, what a cache holds, and views of both.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};

use super::flex;
use super::matrix::View;

/// A tensor `[batch, heads, length, features]` whose features lie side by side, in whatever order the rest is.
pub(super) struct Heads {
    tensor: FlexTensor,
    pub shape: [usize; 4],
    strides: [usize; 3],
}

impl Heads {
    pub fn of(tensor: Tensor<Flex, 4>) -> Self {
        let shape = tensor.dims();
        let tensor = flex(tensor);
        let strides = tensor.layout().strides();
        let readable = strides[3] == 1 && strides.iter().all(|stride| *stride >= 0);
        let tensor = if readable { tensor } else { tensor.to_contiguous() };
        let strides = [0, 1, 2].map(|dim| tensor.layout().strides()[dim].unsigned_abs());
        Self { tensor, shape, strides }
    }

    /// What lies from a place on.
    fn from(&self, place: [usize; 3]) -> &[f32] {
        let offset: usize = place.iter().zip(self.strides).map(|(index, stride)| index * stride).sum();
        &self.tensor.storage::<f32>()[self.tensor.layout().start_offset() + offset..]
    }

    /// The features of one position of one head.
    pub fn features(&self, place: [usize; 3]) -> &[f32] {
        &self.from(place)[..self.shape[3]]
    }

    /// `[rows, features]` of one head.
    pub fn rows(&self, b: usize, h: usize, rows: Range<usize>) -> View<'_> {
        let shape = [rows.len(), self.shape[3]];
        View::new(self.from([b, h, rows.start]), shape, [self.strides[2], 1])
    }

    /// `[length, features]` of one head.
    pub fn head(&self, b: usize, h: usize) -> View<'_> {
        self.rows(b, h, 0..self.shape[2])
    }

    /// `[heads, features]` of one position.
    pub fn position(&self, b: usize, heads: Range<usize>, row: usize) -> View<'_> {
        let shape = [heads.len(), self.shape[3]];
        View::new(self.from([b, heads.start, row]), shape, [self.strides[1], 1])
    }
}
