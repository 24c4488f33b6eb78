//! Weights in 2 to 8 bits, in groups with a scale and a bias: MLX's affine layout, and products with it.
//!
//! The weight stays packed: kernels expand what they multiply, a block or a register at a time. It is not trained;
//! gradients pass through it, as adapters over a quantized model need (Dettmers et al. 2023, arXiv:2305.14314).

mod format;
mod pack;
pub mod plain;
mod round;
mod weight;

use burn::tensor::ops::FloatTensor;

pub use format::{QuantizationError, QuantizationFormat};
pub use pack::{pack, unpack};
pub use round::{GroupScale, dequantize, quantize, quantize_group};
#[cfg(feature = "cpu")]
pub(crate) use weight::Prepared;
pub use weight::{QuantizedBytes, QuantizedWeight};

use super::Kernels;
use super::autodiff::{Operation, float, tensor};

/// `quantized_linear` under autodiff: input `[x]`; keeps the packed weight.
#[derive(Debug)]
pub(super) struct QuantizedLinear;

impl<B: Kernels> Operation<B, 1> for QuantizedLinear {
    const NAME: &'static str = "quantized_linear";
    type Saved = QuantizedWeight<B>;

    fn backward(
        weight: Self::Saved,
        grad: FloatTensor<B>,
        _needed: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [Some(float(B::quantized_linear_backward(weight, tensor(grad))))]
    }
}
