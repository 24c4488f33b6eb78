//! The weight of a projection or of a table of vectors: in floats, or packed in few bits.

use burn::module::{Module, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use smelt_backend::Kernels;
use smelt_backend::kernels::{HeadWeight, QuantizedWeight};

use super::{computed, parameter};

/// A weight `[rows, columns]`.
#[derive(Module, Debug)]
pub enum Matrix<B: Backend> {
    /// In floats of any width; a parameter.
    Dense(Param<Tensor<B, 2>>),
    /// Packed. It is no parameter: it is never trained.
    Quantized(QuantizedWeight<B>),
}

impl<B: Backend> Matrix<B> {
    /// Without values.
    pub(crate) fn structure(dims: [usize; 2], device: &B::Device) -> Self {
        Self::Dense(parameter(dims, device))
    }

    /// A parameter of its own with these values.
    pub fn of(values: Tensor<B, 2>) -> Self {
        Self::Dense(Param::initialized(ParamId::new(), values))
    }

    /// `[rows, columns]`
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.lazy_shape().dims(),
            Self::Quantized(weight) => weight.dims(),
        }
    }

    /// Where it is, or will be when it has values.
    pub(crate) fn device(&self) -> B::Device {
        match self {
            Self::Dense(weight) => weight.lazy_device(),
            Self::Quantized(weight) => weight.device(),
        }
    }
}

impl<B: Kernels> Matrix<B> {
    /// `x W^T + bias`: `[rows, in]` -> `[rows, out]`.
    pub(crate) fn product(&self, x: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 2> {
        match self {
            Self::Dense(weight) => Kernels::linear(x, weight.val(), bias),
            Self::Quantized(weight) => Kernels::quantized_linear(x, weight.clone(), bias),
        }
    }

    /// The rows that `ids` `[batch, seq]` name -> `[batch, seq, columns]`.
    pub(crate) fn rows(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        match self {
            Self::Dense(weight) => computed(Kernels::embedding(weight.val(), ids)),
            Self::Quantized(weight) => Kernels::quantized_embedding(weight.clone(), ids),
        }
    }

    /// `count` rows from `first` on: `[count, columns]`.
    pub(crate) fn range(&self, first: usize, count: usize) -> Tensor<B, 2> {
        match self {
            Self::Dense(weight) => computed(weight.val().narrow(0, first, count)),
            Self::Quantized(weight) => Kernels::dequantized(weight.rows(first, count)),
        }
    }

    /// All of its values: as they are held, or in f32 if they are packed.
    pub fn values(&self) -> Tensor<B, 2> {
        match self {
            Self::Dense(weight) => weight.val(),
            Self::Quantized(weight) => Kernels::dequantized(weight.clone()),
        }
    }

    /// As the matrix of an output head.
    pub(crate) fn head(&self) -> HeadWeight<B> {
        match self {
            Self::Dense(weight) => HeadWeight::Float(weight.val()),
            Self::Quantized(weight) => HeadWeight::Quantized(weight.clone()),
        }
    }

    /// In floats from here on.
    pub(crate) fn unpack(&mut self) {
        if let Self::Quantized(weight) = self {
            *self = Self::of(Kernels::dequantized(weight.clone()));
        }
    }
}
