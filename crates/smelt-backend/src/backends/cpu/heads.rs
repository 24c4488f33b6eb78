//! Heads as they lie: what a projection leaves, what a cache holds, and views of both.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};

use super::flex;
use super::matrix::View;

/// A tensor `[batch, heads, length, features]` whose features lie side by side, in whatever order the rest is.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    /// From the first element on.
    values: &'a [f32],
    pub shape: [usize; 4],
    strides: [usize; 3],
}

/// `tensor` as [`Heads::of`] and [`super::parts`] read it: copied if what its last dimension holds does not lie side by
/// side.
pub(super) fn readable<const D: usize>(tensor: Tensor<Flex, D>) -> FlexTensor {
    let tensor = flex(tensor);
    let strides = tensor.layout().strides();
    if strides[D - 1] == 1 && strides.iter().all(|stride| *stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

impl<'a> Heads<'a> {
    /// Of what [`readable`] returned.
    pub fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        let (shape, strides) = (layout.shape(), layout.strides());
        Self {
            values: &tensor.storage::<f32>()[layout.start_offset()..],
            shape: [0, 1, 2, 3].map(|dim| shape[dim]),
            strides: [0, 1, 2].map(|dim| strides[dim].unsigned_abs()),
        }
    }

    /// What lies from a place on.
    fn from(&self, place: [usize; 3]) -> &'a [f32] {
        let offset: usize = place.iter().zip(self.strides).map(|(index, stride)| index * stride).sum();
        &self.values[offset..]
    }

    /// The features of one position of one head.
    pub fn features(&self, place: [usize; 3]) -> &'a [f32] {
        &self.from(place)[..self.shape[3]]
    }

    /// The features of some positions of one head, if they lie side by side.
    pub fn features_of(&self, [b, h]: [usize; 2], rows: Range<usize>) -> Option<&'a [f32]> {
        let side_by_side = self.strides[2] == self.shape[3] || rows.len() == 1;
        side_by_side.then(|| &self.from([b, h, rows.start])[..rows.len() * self.shape[3]])
    }

    /// `[rows, features]` of one head.
    pub fn rows(&self, b: usize, h: usize, rows: Range<usize>) -> View<'a> {
        let shape = [rows.len(), self.shape[3]];
        View::new(self.from([b, h, rows.start]), shape, [self.strides[2], 1])
    }

    /// `[length, features]` of one head.
    pub fn head(&self, b: usize, h: usize) -> View<'a> {
        self.rows(b, h, 0..self.shape[2])
    }

    /// `[heads, features]` of one position.
    pub fn position(&self, b: usize, heads: Range<usize>, row: usize) -> View<'a> {
        let shape = [heads.len(), self.shape[3]];
        View::new(self.from([b, heads.start, row]), shape, [self.strides[1], 1])
    }
}
