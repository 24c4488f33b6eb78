//! Parts of a tensor along one dimension: the projections of a joined matrix.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// [`Kernels::parts`] in plain burn operations.
pub fn plain<B: Kernels, const D: usize, const N: usize>(
    x: Tensor<B, D>,
    dim: usize,
    sizes: [usize; N],
) -> [Tensor<B, D>; N] {
    assert_eq!(sizes.iter().sum::<usize>(), x.dims()[dim], "parts of dimension {dim}");
    let mut start = 0;
    sizes.map(|size| {
        start += size;
        x.clone().narrow(dim, start - size, size)
    })
}

/// What the nodes of all parts hold together: the gradient is made when the last of them has come.
#[derive(Debug, Clone)]
pub(super) struct Saved<B: Kernels, const D: usize> {
    gradients: Arc<Mutex<Vec<Option<Tensor<B, D>>>>>,
    part: usize,
    dim: usize,
}

impl<B: Kernels, const D: usize> Saved<B, D> {
    /// For each of `count` parts along `dim`.
    pub fn of_parts(count: usize, dim: usize) -> impl Iterator<Item = Self> {
        let gradients = Arc::new(Mutex::new(vec![None; count]));
        (0..count).map(move |part| Self { gradients: gradients.clone(), part, dim })
    }
}

/// A part under autodiff: input `[x]`.
///
/// The gradient of a slice is zero but for the slice, and there would be one for each; this is one for all.
#[derive(Debug)]
pub(super) struct Part<const D: usize>;

impl<B: Kernels, const D: usize> Operation<B, 1> for Part<D> {
    const NAME: &'static str = "parts";
    type Saved = Saved<B, D>;

    fn backward(
        Saved { gradients, part, dim }: Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        let mut gradients = gradients.lock().unwrap_or_else(PoisonError::into_inner);
        gradients[part] = Some(tensor(grad));
        let is_last = gradients.iter().all(Option::is_some);
        [is_last.then(|| float(B::joined(gradients.drain(..).flatten().collect(), dim)))]
    }
}
