//! A matrix before it is rounded, and ways in which it may be.

use burn::tensor::DType;
use smelt_backend::Kernels;
use smelt_backend::kernels::quantized::{dequantize, quantize};
use smelt_backend::kernels::{QuantizationError, QuantizationFormat, QuantizedBytes};

use super::energy::Energy;

/// A matrix that is to be quantized.
pub(super) struct Unrounded {
    /// Row-major.
    pub(super) values: Vec<f32>,
    /// `[out_features, in_features]`
    pub(super) dims: [usize; 2],
    /// What it will be.
    pub(super) format: QuantizationFormat,
    /// What its scales will be in, and what `values` are rounded to.
    pub(super) dtype: DType,
}

/// A way to round a matrix, and what its codes stand for.
pub(super) struct Candidate {
    pub(super) bytes: QuantizedBytes,
    pub(super) values: Vec<f32>,
}

impl Unrounded {
    /// Each value rounded to the nearest.
    pub(super) fn nearest(&self) -> Result<Candidate, QuantizationError> {
        self.candidate(quantize(&self.values, self.dims, self.format, self.dtype)?)
    }

    /// Rounded as `bytes` have it.
    pub(super) fn candidate(&self, bytes: QuantizedBytes) -> Result<Candidate, QuantizationError> {
        Ok(Candidate { values: dequantize(&bytes, self.dims, self.format)?, bytes })
    }

    /// What rounding changes in the outputs: the root mean square, over that of the outputs.
    pub(super) fn output_error<B: Kernels>(&self, candidate: &Candidate, energy: &Energy<B>) -> f64 {
        let whole = energy.of(&self.values, self.dims).max(f64::MIN_POSITIVE);
        (energy.of(&self.change(candidate), self.dims) / whole).sqrt()
    }

    /// What rounding adds to each value.
    pub(super) fn change(&self, candidate: &Candidate) -> Vec<f32> {
        candidate.values.iter().zip(&self.values).map(|(a, b)| a - b).collect()
    }

    /// The same of the weights themselves.
    pub(super) fn weight_error(&self, candidate: &Candidate) -> f64 {
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
        let pairs = candidate.values.iter().zip(&self.values);
        let changes = squares(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let own = squares(&mut self.values.iter().map(|value| f64::from(*value)));
        (changes / own.max(f64::MIN_POSITIVE)).sqrt()
    }
}
