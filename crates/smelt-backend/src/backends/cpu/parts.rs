//! `joined` by all threads, from wherever the parts lie: burn-flex goes over views number by number.

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};

use super::fill::zeros;
use super::heads::readable;
use super::{from_vec, team};

/// Numbers that one thread copies at a time, about.
const TASK: usize = 1 << 14;

/// A part whose last dimension is contiguous, in any order otherwise.
struct Part {
    tensor: FlexTensor,
    strides: Vec<usize>,
    /// Of the dimension along which parts are joined.
    size: usize,
}

impl Part {
    fn of<const D: usize>(part: Tensor<Flex, D>, dim: usize) -> Self {
        let size = part.dims()[dim];
        let tensor = readable(part);
        let strides = tensor.layout().strides().iter().map(|stride| stride.unsigned_abs()).collect();
        Self { tensor, strides, size }
    }

    /// What lies from the `index`th of the places on that dimensions before `dim` tell apart.
    fn from(&self, mut index: usize, shape: &[usize], dim: usize) -> &[f32] {
        let mut offset = self.tensor.layout().start_offset();
        for before in (0..dim).rev() {
            offset += index % shape[before] * self.strides[before];
            index /= shape[before];
        }
        &self.tensor.storage::<f32>()[offset..]
    }

    /// Copies what is at that place.
    fn copy(&self, index: usize, shape: &[usize], dim: usize, to: &mut [f32]) {
        let from = self.from(index, shape, dim);
        let line = to.len() / if dim + 1 < shape.len() { self.size } else { 1 };
        for (line_index, to) in to.chunks_exact_mut(line).enumerate() {
            to.copy_from_slice(&from[line_index * self.strides[dim]..][..line]);
        }
    }
}

/// As `Kernels::joined`.
pub(super) fn joined<const D: usize>(parts: Vec<Tensor<Flex, D>>, dim: usize) -> Tensor<Flex, D> {
    let mut shape = parts.first().map_or([0; D], Tensor::dims);
    shape[dim] = parts.iter().map(|part| part.dims()[dim]).sum();
    let count = shape.iter().product();
    if dim + 2 < D || count == 0 {
        return Tensor::cat(parts, dim);
    }
    let parts: Vec<Part> =
        parts.into_iter().map(|part| Part::of(part, dim)).filter(|part| part.size > 0).collect();
    let inner: usize = shape[dim + 1..].iter().product();
    let place = shape[dim] * inner;
    let places = (TASK / place).max(1);
    let mut all = zeros(count);
    team::for_each(all.chunks_mut(places * place).enumerate(), |(task, all)| {
        for (index, mut to) in all.chunks_exact_mut(place).enumerate() {
            for part in &parts {
                let this;
                (this, to) = to.split_at_mut(part.size * inner);
                part.copy(task * places + index, &shape, dim, this);
            }
        }
    });
    from_vec(all, shape)
}
