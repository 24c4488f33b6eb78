//! Rotates queries and keys by the tables of a pass.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use smelt_backend::kernels::RotaryStyle;
use smelt_backend::{Kernels, float_tensor};

use crate::rotary::{RopeLengths, RotaryConfig};

/// Cosines and sines of one kind of rotation at the positions of a pass.
#[derive(Debug, Clone)]
pub struct Rotary<B: Backend> {
    /// `[rows, seq, rotary_dim / 2]`, one row standing for all where positions are the same.
    cos: Tensor<B, 3>,
    sin: Tensor<B, 3>,
    rotary_dim: usize,
    style: RotaryStyle,
}

impl<B: AutodiffBackend> Rotary<B> {
    /// The same for a forward pass that tracks no gradients.
    pub(crate) fn inner(&self) -> Rotary<B::InnerBackend> {
        Rotary {
            cos: self.cos.clone().inner(),
            sin: self.sin.clone().inner(),
            rotary_dim: self.rotary_dim,
            style: self.style,
        }
    }
}

impl<B: Kernels> Rotary<B> {
    /// For positions `[rows, seq]`, row-major, of which each part has its own lengths. Frequencies are computed once
    /// for parts that have the same.
    pub(crate) fn new(
        config: &RotaryConfig,
        rows: usize,
        parts: &[(&[u32], RopeLengths)],
        device: &B::Device,
    ) -> Self {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        let same =
            |a: &(&[u32], RopeLengths), b: &(&[u32], RopeLengths)| !config.depends_on_length() || a.1 == b.1;
        for parts in parts.chunk_by(same) {
            let positions: Vec<u32> = parts.iter().flat_map(|(positions, _)| *positions).copied().collect();
            let (part_cos, part_sin) = config.tables(&positions, parts[0].1);
            cos.extend(part_cos);
            sin.extend(part_sin);
        }
        let seq = parts.iter().map(|(positions, _)| positions.len()).sum::<usize>() / rows;
        let shape = [rows, seq, config.rotary_dim / 2];
        Self {
            cos: float_tensor(cos, shape, device),
            sin: float_tensor(sin, shape, device),
            rotary_dim: config.rotary_dim,
            style: config.style,
        }
    }

    /// `x` `[batch, heads, seq, head_dim]` -> the same, with its leading features rotated.
    pub fn apply(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let rotate = |x| Kernels::rotary(x, self.cos.clone(), self.sin.clone(), self.style);
        let head_dim = x.dims()[3];
        if self.rotary_dim == head_dim {
            return rotate(x);
        }
        let [rotated, rest] = Kernels::parts(x, 3, [self.rotary_dim, head_dim - self.rotary_dim]);
        Kernels::joined(vec![rotate(rotated), rest], 3)
    }
}
