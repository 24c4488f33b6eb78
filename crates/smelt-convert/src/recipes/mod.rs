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
