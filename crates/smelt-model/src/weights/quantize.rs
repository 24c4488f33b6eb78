//! From a checkpoint to a quantized one in MLX's layout, tensor by tensor: rounding to the nearest value.
//!
//! No model is built. A matrix exists in f32 while its turn lasts; of the result, scales and biases wait for their
//! place in the file.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::DType;
use bytes::Bytes;
use safetensors::Dtype;
use smelt_backend::kernels::quantized::quantize;
use smelt_backend::kernels::{QuantizationFormat, QuantizedBytes};

use super::check::{Found, located};
use super::checkpoint::Checkpoint;
use super::dtype::{dtype_named, file_dtype, float_bytes, held_dtype, round_to};
use super::location::Location;
use super::pending::Pending;
use super::replacements::Replacements;
use super::save::write_weights;
use super::transpose::transposed;
use super::writer::Values;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::parameters::ParameterInfo;
use crate::quantization::QuantizationPlan;

/// What a caller may choose about quantizing.
#[derive(Debug, Clone, Copy)]
pub struct QuantizeOptions<'a> {
    /// What scales, biases and the rest are rounded to before anything else. Where it is left out, what the
    /// configuration notes, as with mlx-lm; as stored if it notes nothing.
    pub dtype: Option<Dtype>,
    /// Weights beyond this go into several files.
    pub max_shard_bytes: u64,
    /// What is not made of the values in files.
    pub replacements: Option<&'a Replacements>,
}

impl Default for QuantizeOptions<'_> {
    /// As stored, in shards of 5 GiB as mlx-lm writes them.
    fn default() -> Self {
        Self { dtype: None, max_shard_bytes: 5 << 30, replacements: None }
    }
}

/// Writes the model in `checkpoint`, quantized as `plan` says, into `folder`: its configuration, weights and their
/// index, as mlx-lm does it to the last bit.
///
/// # Errors
/// [`ModelError::Quantized`] if it is quantized already; [`ModelError::NoTensor`], [`ModelError::BadDtype`],
/// [`ModelError::NonFinite`] and [`ModelError::Quantization`] for what is wrong with a tensor; [`ModelError::Io`].
pub fn quantize_checkpoint(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    plan: &QuantizationPlan,
    options: QuantizeOptions<'_>,
    folder: &Path,
) -> Result<(), ModelError> {
    if config.quantization.is_some() {
        return Err(ModelError::Quantized { path: checkpoint.path().to_path_buf() });
    }
    let parameters = config.parameters();
    super::check::check(config, checkpoint, &parameters, &[])?;
    let quantized = plan.applied_to(config);
    let names = &config.family.names;
    let mut done = HashSet::new();
    let mut pending = Vec::new();
    for info in &parameters {
        let Location { name, expert, .. } = names.in_mlx(&info.path);
        if !done.insert(name.clone()) {
            continue;
        }
        let parts = match expert {
            None => vec![info.path.clone()],
            Some(_) => every_expert(config, &info.path),
        };
        let tensor = OutTensor { config, checkpoint, info, name, parts, joined: expert.is_some(), options };
        match plan.format_of_parameter(&info.path) {
            Some(format) => pending.extend(tensor.quantized(format)?),
            None => pending.push(tensor.dense()?),
        }
    }
    write_weights(&quantized, pending, options.max_shard_bytes, folder)
}

/// The paths of the tensors that files join: that of every expert of the block.
fn every_expert(config: &ModelConfig, path: &str) -> Vec<String> {
    const EXPERTS: &str = ".experts.";
    let count = config.decoder.experts.map_or(0, |experts| experts.num_experts);
    let (block, rest) = path.split_once(EXPERTS).unwrap_or_default();
    let (_, projection) = rest.split_once('.').unwrap_or_default();
    (0..count).map(|index| format!("{block}{EXPERTS}{index}.{projection}")).collect()
}

/// One tensor of the result that is not packed, or the matrix that becomes three.
struct OutTensor<'a> {
    config: &'a ModelConfig,
    checkpoint: &'a Checkpoint,
    /// The first of its parts.
    info: &'a ParameterInfo,
    /// Its name in the result.
    name: String,
    /// Paths of what it is made of.
    parts: Vec<String>,
    /// The parts are those of experts.
    joined: bool,
    options: QuantizeOptions<'a>,
}

impl<'a> OutTensor<'a> {
    fn dense(self) -> Result<Pending<'a>, ModelError> {
        let dtype = self.dtype()?;
        let stored = file_dtype(dtype);
        let shape = self.shape(&self.info.shape);
        let name = self.name.clone();
        let values = move || {
            let mut bytes = Vec::new();
            for path in &self.parts {
                bytes.append(&mut float_bytes(stored, &self.values(path, dtype)?));
            }
            Ok(Values::Bytes(bytes.into()))
        };
        Ok(Pending { name, shape, dtype: stored, values: Box::new(values) })
    }

    /// Codes, scales and biases, made together when the first is asked for.
    fn quantized(self, format: QuantizationFormat) -> Result<[Pending<'a>; 3], ModelError> {
        let dtype = self.dtype()?;
        let [rows, columns] = self.dims();
        let groups = columns / format.group_size();
        let words = columns / 32 * format.bits() as usize;
        let module = self.name.strip_suffix(".weight").unwrap_or(&self.name).to_owned();
        let scales = file_dtype(dtype);
        let parts = [("weight", Dtype::U32, words), ("scales", scales, groups), ("biases", scales, groups)];
        let tensor = Arc::new(self);
        let made: Arc<Mutex<[Option<Bytes>; 3]>> = Arc::default();
        let mut index = 0;
        Ok(parts.map(|(part, part_dtype, width)| {
            let (tensor, made, own) = (tensor.clone(), made.clone(), index);
            index += 1;
            let shape = tensor.shape(&[rows, width]);
            let values = move || {
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                if made[own].is_none() {
                    *made = tensor.packed(format, dtype)?.map(Some);
                }
                Ok(Values::Bytes(made[own].take().unwrap_or_default().to_vec().into()))
            };
            Pending { name: format!("{module}.{part}"), shape, dtype: part_dtype, values: Box::new(values) }
        }))
    }

    /// Codes, scales and biases of all parts.
    fn packed(&self, format: QuantizationFormat, dtype: DType) -> Result<[Bytes; 3], ModelError> {
        let mut all = [Vec::new(), Vec::new(), Vec::new()];
        for path in &self.parts {
            let QuantizedBytes { packed, scales, biases, .. } = match self.replaced(path) {
                Some(packed) => packed.clone(),
                None => self.rounded(path, format, dtype)?,
            };
            if let [_] = self.parts.as_slice() {
                return Ok([packed, scales, biases]);
            }
            all.iter_mut().zip([packed, scales, biases]).for_each(|(all, part)| all.extend_from_slice(&part));
        }
        Ok(all.map(Bytes::from))
    }

    /// The matrix at `path` as somebody packed it.
    fn replaced(&self, path: &str) -> Option<&QuantizedBytes> {
        self.options.replacements?.packed.get(path.strip_suffix(".weight")?)
    }

    /// The matrix at `path`, each value rounded to the nearest.
    fn rounded(
        &self,
        path: &str,
        format: QuantizationFormat,
        dtype: DType,
    ) -> Result<QuantizedBytes, ModelError> {
        let packed = quantize(&self.values(path, dtype)?, self.dims(), format, dtype);
        let name = || self.config.family.names.key(path);
        packed.map_err(|source| ModelError::Quantization { name: name(), source })
    }

    /// Values of the part at `path` in the orientation of the model, rounded to `dtype`.
    fn values(&self, path: &str, dtype: DType) -> Result<Vec<f32>, ModelError> {
        let found = located(self.config, self.checkpoint, path)?;
        let replaced = self.options.replacements.and_then(|all| all.dense.get(path));
        let mut values = match replaced {
            Some(values) => values.clone(),
            None => found.values(&self.info.shape)?,
        };
        round_to(&mut values, dtype);
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(ModelError::NonFinite { name: found.name, index, value: values[index] }),
        }
    }

    /// `[rows, columns]` of one part.
    fn dims(&self) -> [usize; 2] {
        [self.info.shape[0], self.info.shape[1]]
    }

    /// The shape of all parts, where one has `shape`.
    fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let joined = self.joined.then_some(self.parts.len());
        joined.into_iter().chain(shape.iter().copied()).collect()
    }

    fn dtype(&self) -> Result<DType, ModelError> {
        let stored = located(self.config, self.checkpoint, &self.parts[0])?.tensor.dtype;
        Ok(quantized_dtype(self.config, self.options.dtype, stored))
    }
}

/// Values of the matrix at `path`, `[rows, columns]` in the orientation of the model, and the dtype that they are
/// stored in.
pub(super) fn stored_matrix(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    path: &str,
    dims: [usize; 2],
) -> Result<(Vec<f32>, DType), ModelError> {
    let found = located(config, checkpoint, path)?;
    Ok((found.values(&dims)?, rounded_to(found.tensor.dtype)))
}

impl Found<'_> {
    /// Its values in the orientation of the model, where they have `shape`; the file's pages are let go.
    fn values(&self, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let values = self.file.f32_of(&self.name, &self.tensor)?;
        self.file.release_of(&self.tensor);
        Ok(match shape {
            [rows, columns] if self.transposed => transposed(&values, *columns, *rows),
            _ => values,
        })
    }
}

/// What scales and all that stays in floats are rounded to when a model of `config` is quantized, where values are `stored`
/// in some dtype: what was `asked` for, else what the configuration notes, as with mlx-lm.
pub fn quantized_dtype(config: &ModelConfig, asked: Option<Dtype>, stored: Dtype) -> DType {
    let noted = || config.noted_dtype().and_then(dtype_named);
    rounded_to(asked.or_else(noted).unwrap_or(stored))
}

/// What values that are stored in `dtype` are rounded to.
fn rounded_to(dtype: Dtype) -> DType {
    held_dtype(dtype).unwrap_or(DType::F32)
}
