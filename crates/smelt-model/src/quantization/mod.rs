//! Quantized models in MLX's layout: what a configuration says of them, and which modules become what.
//!
//! A packed weight is three tensors, `X.weight`, `X.scales` and `X.biases`; products with it are kernels of
//! `smelt_backend`, and it is a variant of the one [`Matrix`](crate::blocks::Matrix). Here is no arithmetic.

mod config;
mod plan;
mod rules;

pub use config::Quantization;
pub use plan::{QuantizationPlan, commonest, every_expert};
pub use rules::{GROUP_SIZE, QuantizationRules};
