//! Foreign formats of smelt: GGUF, MLX and ONNX, in and out, and the conversion between all of them.
//!
//! A [`Source`] is a model as files hold it, whatever the format: a configuration, named weights that stay on
//! disk until asked for, and what belongs to it besides. Each writer takes one and streams it tensor by tensor.
//! Knows no command line and runs no model: whether the result computes the same is for the caller to try.

mod companions;
mod error;
pub mod folder;
pub mod gguf;
pub mod onnx;
mod output;
mod quantize;
pub mod recipes;
mod source;

pub use companions::Companions;
pub use error::{ConvertError, Damage};
pub use output::{Progress, check_output};
pub use quantize::write_quantized;
pub use source::{Parameter, Source};
