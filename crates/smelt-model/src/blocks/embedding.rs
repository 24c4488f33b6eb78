//! A table of vectors, for tokens and for learned positions.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use smelt_backend::Kernels;

use super::Matrix;

/// A table of vectors looked up by id.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[ids, features]`
    pub weight: Matrix<B>,
}

impl<B: Backend> Embedding<B> {
    /// `ids` vectors of `features`, without values.
    pub(crate) fn structure(ids: usize, features: usize, device: &B::Device) -> Self {
        Self { weight: Matrix::structure([ids, features], device) }
    }

    /// `ids` `[batch, seq]` -> `[batch, seq, features]`.
    ///
    /// Ids must be in the table: some backends read past it silently, so callers check on the host.
    pub fn forward(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3>
    where
        B: Kernels,
    {
        self.weight.rows(ids)
    }

    /// The vectors of `count` consecutive ids from `first`: `[1, count, features]`.
    ///
    /// # Panics
    /// If the table is shorter.
    pub fn range(&self, first: usize, count: usize) -> Tensor<B, 3>
    where
        B: Kernels,
    {
        let [ids, _] = self.weight.dims();
        assert!(first + count <= ids, "positions {first}..{} of {ids}", first + count);
        self.weight.range(first, count).unsqueeze()
    }
}
