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
mod mlp;
mod norm;
mod rotary;

use burn::module::{Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub use attention::Attention;
pub use block::{Block, Pass};
pub use dropout::DropoutStream;
pub use embedding::Embedding;
pub use experts::{Experts, Routing, load_balancing_loss};
pub use linear::Linear;
pub use mlp::Mlp;
pub use norm::Norm;
pub use rotary::Rotary;

/// A parameter of `shape` on `device` without values: zeros if nobody gives it any.
fn parameter<B: Backend, const D: usize>(shape: [usize; D], device: &B::Device) -> Param<Tensor<B, D>> {
    let zeros = move |device: &B::Device, require_grad: bool| {
        Tensor::zeros(shape, device).set_require_grad(require_grad)
    };
    Param::uninitialized(ParamId::new(), zeros, device.clone(), true, shape.into())
}
