//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864).
//!
//! Knows nothing of frequencies, scalings or caches: callers pass the cosines and sines of each position.

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// Which pairs of features rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryStyle {
    /// `(x[i], x[i + d/2])`, as Hugging Face's Llama checkpoints expect.
    Half,
    /// `(x[2i], x[2i + 1])`, as GPT-J's do.
    Interleaved,
}

/// [`Kernels::rotary`] in plain burn operations.
pub fn plain<B: Kernels>(
    x: Tensor<B, 4>,
    cos: Tensor<B, 3>,
    sin: Tensor<B, 3>,
    style: RotaryStyle,
) -> Tensor<B, 4> {
    let [batch, heads, seq, dim] = x.dims();
    assert_eq!(cos.dims()[2] * 2, dim, "cos must hold one value for each pair of the {dim} features");
    let (cos, sin) = (cos.unsqueeze_dim::<4>(1), sin.unsqueeze_dim::<4>(1));
    let half = dim / 2;
    let (first, second) = match style {
        RotaryStyle::Half => (x.clone().narrow(3, 0, half), x.narrow(3, half, half)),
        RotaryStyle::Interleaved => {
            let pairs = x.reshape([batch, heads, seq * half, 2]);
            let at = |i| pairs.clone().narrow(3, i, 1).reshape([batch, heads, seq, half]);
            (at(0), at(1))
        }
    };
    let rotated_first = first.clone() * cos.clone() - second.clone() * sin.clone();
    let rotated_second = second * cos + first * sin;
    match style {
        RotaryStyle::Half => Tensor::cat(vec![rotated_first, rotated_second], 3),
        RotaryStyle::Interleaved => {
            Tensor::stack::<5>(vec![rotated_first, rotated_second], 4).reshape([batch, heads, seq, dim])
        }
    }
}

/// `rotary` under autodiff: input `[x]`.
#[derive(Debug)]
pub(super) struct Rotary;

impl<B: Kernels> Operation<B, 1> for Rotary {
    const NAME: &'static str = "rotary";
    type Saved = (Tensor<B, 3>, Tensor<B, 3>, RotaryStyle);

    fn backward(
        (cos, sin, style): Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        // The transpose of a rotation is the rotation by the opposite angle.
        [Some(float(B::rotary(tensor(grad), cos, sin.neg(), style)))]
    }
}
