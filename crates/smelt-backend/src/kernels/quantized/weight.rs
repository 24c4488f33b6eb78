//! A quantized weight on a device, and its bytes on the host.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use bytes::Bytes;

use super::format::holds_scales;
use super::{QuantizationError, QuantizationFormat};
use crate::{Kernels, tensor_over};

/// A weight `[out, in]` whose rows are groups of codes: code `q` stands for `scale q + bias`, computed in the format
/// of the scales, or in f32 ([`QuantizedWeight::unrounded`]).
///
/// Copies share the tensors. Nothing in it is a parameter: it is not trained, saved or counted as one.
#[derive(Module, Debug)]
pub struct QuantizedWeight<B: Backend> {
    /// `[out, in * bits / 32]`, in u32 on every backend.
    pub(crate) packed: Tensor<B, 2, Int>,
    /// `[out, in / group_size]`
    pub(crate) scales: Tensor<B, 2>,
    /// `[out, in / group_size]`
    pub(crate) biases: Tensor<B, 2>,
    #[module(skip)]
    format: QuantizationFormat,
    /// The format of scales and biases in files; tensors are in f32 where the backend has no other.
    #[module(skip)]
    dtype: DType,
    /// The format that values are computed in.
    #[module(skip)]
    rounding: DType,
    /// What the backend makes of it for its products.
    #[module(skip)]
    pub(crate) prepared: Prepared,
}

/// What a backend makes of a weight when it first needs it, and keeps with it; of any type, but always the same.
#[derive(Clone, Default)]
pub(crate) struct Prepared(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

#[cfg(feature = "cpu")]
impl Prepared {
    /// What is kept, or what `make` makes of the weight.
    ///
    /// # Panics
    /// If something of another type was made before.
    pub fn get_or_make<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> &T {
        let kept = self.0.get_or_init(|| Box::new(make()));
        kept.downcast_ref().expect("a weight is prepared in one way")
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Prepared" } else { "unprepared" })
    }
}

/// The parts of a quantized weight as files hold them, row-major and little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedBytes {
    /// MLX's `weight`: `[out, in * bits / 32]` in u32.
    pub packed: Bytes,
    /// `[out, in / group_size]` in `dtype`.
    pub scales: Bytes,
    /// `[out, in / group_size]` in `dtype`.
    pub biases: Bytes,
    /// f32, f16 or bf16.
    pub dtype: DType,
}

impl<B: Backend> QuantizedWeight<B> {
    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        let [out, groups] = self.scales.dims();
        [out, groups * self.format.group_size()]
    }

    /// Where it is.
    pub fn device(&self) -> B::Device {
        self.packed.device()
    }

    /// How values are packed.
    pub fn format(&self) -> QuantizationFormat {
        self.format
    }

    /// The format of scales and biases in files.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The format that values are computed in: product and sum are rounded to it.
    pub(crate) fn rounding(&self) -> DType {
        self.rounding
    }

    /// The same codes for values that are computed in f32, which take less time where scales are in 16 bits.
    ///
    /// MLX decodes with such values on Metal, where `mx.dequantize` rounds each to the scales' format: they differ by
    /// up to half a unit in the last place of that, from numbers that were rounded to a few bits.
    #[must_use]
    pub fn unrounded(self) -> Self {
        Self { rounding: DType::F32, ..self }
    }

    /// Memory that it takes.
    pub fn size_bytes(&self) -> usize {
        let scales = self.scales.shape().num_elements() * self.scales.dtype().size();
        self.packed.shape().num_elements() * size_of::<u32>() + 2 * scales
    }

    /// `count` rows from `start` on.
    pub fn rows(&self, start: usize, count: usize) -> Self {
        Self {
            packed: self.packed.clone().narrow(0, start, count),
            scales: self.scales.clone().narrow(0, start, count),
            biases: self.biases.clone().narrow(0, start, count),
            prepared: Prepared::default(),
            ..*self
        }
    }

    /// The rows that `ids` name, which must be there.
    pub(super) fn selected(&self, ids: Tensor<B, 1, Int>) -> Self {
        Self {
            packed: self.packed.clone().select(0, ids.clone()),
            scales: self.scales.clone().select(0, ids.clone()),
            biases: self.biases.clone().select(0, ids),
            prepared: Prepared::default(),
            ..*self
        }
    }

    /// Its parts as files hold them.
    pub fn to_bytes(&self) -> QuantizedBytes {
        let host = |data: TensorData| Bytes::copy_from_slice(data.as_bytes());
        let scales = |scales: &Tensor<B, 2>| host(scales.clone().into_data().convert_dtype(self.dtype));
        QuantizedBytes {
            packed: host(self.packed.clone().into_data()),
            scales: scales(&self.scales),
            biases: scales(&self.biases),
            dtype: self.dtype,
        }
    }
}

impl<B: Kernels> QuantizedWeight<B> {
    /// A weight `[out, in]` from the bytes of a file, which are read where they lie by backends that compute in system
    /// memory.
    ///
    /// # Errors
    /// [`QuantizationError`] if the bytes do not fit the shape and the format.
    pub fn from_bytes(
        bytes: QuantizedBytes,
        shape: [usize; 2],
        format: QuantizationFormat,
        device: &B::Device,
    ) -> Result<Self, QuantizationError> {
        let groups = check_bytes(&bytes, shape, format)?;
        let QuantizedBytes { packed, scales, biases, dtype } = bytes;
        let [out, _] = shape;
        let words = groups * format.group_bytes() / size_of::<u32>();
        let on_device = |bytes: Bytes| {
            if B::keeps_weights_in(dtype) {
                return tensor_over(bytes, dtype, [out, groups], device);
            }
            let data = TensorData::from_bytes_vec(bytes.into(), [out, groups], dtype);
            Tensor::from_data(data.convert::<f32>(), (device, DType::F32))
        };
        Ok(Self {
            packed: tensor_over(packed, DType::U32, [out, words], device),
            scales: on_device(scales),
            biases: on_device(biases),
            format,
            dtype,
            rounding: dtype,
            prepared: Prepared::default(),
        })
    }
}

/// Groups of a row, if the bytes are those of such a weight.
pub(super) fn check_bytes(
    weight: &QuantizedBytes,
    [out, features]: [usize; 2],
    format: QuantizationFormat,
) -> Result<usize, QuantizationError> {
    if !holds_scales(weight.dtype) {
        return Err(QuantizationError::ScaleDtype { found: weight.dtype });
    }
    let groups = format.groups(features)?;
    let parts = [
        ("weight", &weight.packed, format.group_bytes()),
        ("scales", &weight.scales, weight.dtype.size()),
        ("biases", &weight.biases, weight.dtype.size()),
    ];
    for (part, bytes, group_bytes) in parts {
        let expected = out as u128 * groups as u128 * group_bytes as u128;
        if bytes.len() as u128 != expected {
            let found = bytes.len();
            return Err(QuantizationError::Bytes { part, out, features, expected, found });
        }
    }
    Ok(groups)
}
