//! The parts every decoder is made of: one definition each, options instead of variants.
//!
//! Blocks work on flat activations, `[batch * seq, features]`, and change nothing but the cache they are
//! given. Parameters start without values, so that a model can be built before its weights are read.

mod attention;
mod block;
pub(crate) mod dropout;
mod embedding;
mod experts;
mod linear;
mod lora;
mod matrix;
mod mlp;
mod norm;
pub(crate) mod observer;
mod rotary;

use burn::module::{Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Element, Tensor};

pub use attention::{Attention, CacheRows};
pub use block::{Block, Pass};
pub use dropout::DropoutStream;
pub use embedding::Embedding;
pub use experts::{Experts, Routing, expert_shares, load_balancing_loss, load_balancing_share};
pub use linear::Linear;
pub(crate) use lora::LoraConfig;
pub use lora::{Lora, Magnitude};
pub use matrix::Matrix;
pub use mlp::Mlp;
pub use norm::Norm;
pub use rotary::Rotary;

/// A parameter as it is computed with: it may be held in half precision, activations are not.
pub(crate) fn computed<B: Backend, const D: usize>(parameter: Tensor<B, D>) -> Tensor<B, D> {
    let dtype = <B::FloatElem as Element>::dtype();
    if parameter.dtype() == dtype { parameter } else { parameter.cast(dtype) }
}

/// A parameter of `shape` on `device` without values: zeros if nobody gives it any.
fn parameter<B: Backend, const D: usize>(shape: [usize; D], device: &B::Device) -> Param<Tensor<B, D>> {
    let zeros = move |device: &B::Device, require_grad: bool| {
        Tensor::zeros(shape, device).set_require_grad(require_grad)
    };
    Param::uninitialized(ParamId::new(), zeros, device.clone(), true, shape.into())
}
