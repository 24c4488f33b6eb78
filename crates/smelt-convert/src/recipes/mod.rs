//! Quantization by what a model computes on a text: how its weights are rounded, and what that costs.
//!
//! A model is walked block by block; what enters the projections of a block comes from the quantized blocks before it.
//! The methods work on one matrix and the moments of its inputs, and know no model; the walk knows no method's inside.
//! Files and texts are for the caller.

mod awq;
mod budget;
mod calibrate;
mod energy;
mod gptq;
mod inverse;
mod packed;
mod quality;
mod report;
mod search;
mod sensitivity;
mod unrounded;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::tensor::DType;
use safetensors::Dtype;
use smelt_backend::kernels::QuantizationError;
use smelt_model::ModelError;
use smelt_model::weights::quantized_dtype;

use crate::{ConvertError, Parameter, Source};

pub use budget::{Budget, MixedBits, mixed_bits};
pub use calibrate::{Calibrated, Calibration, calibrate};
pub use quality::{divergence, perplexity};
pub use report::ModuleReport;
pub use search::{Choice, Sensitivity};
pub use sensitivity::{Probe, nearest, sensitivities};

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// Each to the nearest value.
    Nearest,
    /// By GPTQ.
    Gptq,
    /// By AWQ.
    Awq,
}

/// What `parameters` of `source` will be stored in where `asked` says what was asked for, by their paths.
fn quantized_dtypes(
    source: &Source,
    parameters: &[Parameter<'_>],
    asked: Option<Dtype>,
) -> BTreeMap<String, DType> {
    let of = |parameter: &Parameter<'_>| {
        (parameter.info().path.clone(), quantized_dtype(&source.config, asked, parameter.dtype()))
    };
    parameters.iter().map(of).collect()
}

/// That the matrix of the module at `path` cannot be quantized.
fn failed(source: &Source, path: &str, error: QuantizationError) -> ConvertError {
    let name = source.config.family.names.mlx_module(path);
    ModelError::Quantization { name, source: error }.into()
}

/// Long work goes on, or ends because it was told to.
fn go_on(flow: ControlFlow<()>) -> Result<(), ConvertError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ConvertError::Interrupted),
    }
}
