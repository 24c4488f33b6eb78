//! Backends of smelt: detection, selection, dispatch, and the fused kernels that decide speed.
//!
//! The only crate that names a concrete backend. Everything else is generic over [`Kernels`] and reaches
//! a device through [`select`] and [`dispatch`].

mod backends;
mod dispatch;
mod error;
mod host;
pub mod kernels;
mod matmul_rate;
pub mod memory;
mod name;
mod precision;
mod probe;
pub mod profile;
mod scope;
mod select;
mod self_test;
mod survey;
mod vectorized;

pub use backends::in_build;
pub use dispatch::{Job, dispatch};
pub use error::BackendError;
pub use host::{float_tensor, int_tensor, scalar, tensor_over, to_host, zeros};
pub use kernels::Kernels;
pub use matmul_rate::matmul_flops_per_second;
pub use name::Name;
pub use precision::Precision;
pub use scope::scoped;
pub use select::{Reason, Request, Selection, select, trains_in};
pub use survey::{BackendReport, survey};
pub use vectorized::{Loops, exp, largest, smallest, vectorized};
