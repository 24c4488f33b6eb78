//! Packed matrices in files: which there are, what their tensors are, and reading them where they lie.

use std::sync::Arc;

use bytes::Bytes;
use safetensors::Dtype;
use smelt_backend::Kernels;
use smelt_backend::kernels::quantized::dequantize;
use smelt_backend::kernels::{QuantizationFormat, QuantizedBytes, QuantizedWeight};

use super::check::{Found, located};
use super::checkpoint::Checkpoint;
use super::dtype::{file_dtype, float_bytes, held_dtype};
use super::huge_pages::HugePages;
use super::place::{Made, Place, StoredTensor};
use super::read_ahead::{NonFinite, Source, first_non_finite};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::parameters::ParameterInfo;

/// A matrix of the model that files hold packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackedMatrix {
    /// That of its module.
    pub(super) path: String,
    /// `[rows, columns]`
    pub(super) dims: [usize; 2],
    pub(super) format: QuantizationFormat,
}

/// The packed matrices of `checkpoint`, in the order of the model's.
///
/// Those are packed that the configuration names with a format, and of those that it does not name the ones that have
/// scales, biases or codes.
pub(super) fn packed_matrices<B: Kernels>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    model: &mut Decoder<B>,
) -> Result<Vec<PackedMatrix>, ModelError> {
    let matrices = model.matrices_mut().map(|(path, matrix)| (path, matrix.dims()));
    packed_among(config, checkpoint, matrices)
}

/// Those of `matrices`, paths with `[rows, columns]`, that `checkpoint` holds packed.
pub(super) fn packed_among(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    matrices: impl Iterator<Item = (String, [usize; 2])>,
) -> Result<Vec<PackedMatrix>, ModelError> {
    let Some(quantization) = &config.quantization else { return Ok(Vec::new()) };
    let names = &config.family.names;
    let mut packed = Vec::new();
    for (path, dims) in matrices {
        let name = names.mlx_module(&path);
        let format = match quantization.modules.get(&name) {
            Some(named) => *named,
            None => unnamed_format(config, checkpoint, &path, dims[1], quantization.default)?,
        };
        let Some(format) = format else { continue };
        format.groups(dims[1]).map_err(|source| ModelError::Quantization { name, source })?;
        packed.push(PackedMatrix { path, dims, format });
    }
    Ok(packed)
}

/// The format of the module at `path`, of `columns`, if `checkpoint` holds it packed: as mlx-lm tells it from the shapes
/// of codes and scales, else `default`, whose shapes it is then held against.
fn unnamed_format(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    path: &str,
    columns: usize,
    default: QuantizationFormat,
) -> Result<Option<QuantizationFormat>, ModelError> {
    let part = |part: &str| {
        let found = config.family.names.locate(checkpoint, &format!("{path}.{part}"));
        found.map(|(location, file)| file.tensor(&location.name)).transpose()
    };
    let (codes, scales) = (part("weight")?.filter(|weight| weight.dtype == Dtype::U32), part("scales")?);
    if codes.is_none() && scales.is_none() && part("biases")?.is_none() {
        return Ok(None);
    }
    let last = |tensor: Option<&StoredTensor>| tensor.and_then(|tensor| tensor.shape.last().copied());
    let by_shapes = last(codes).zip(last(scales)).and_then(|(words, groups)| {
        let bits = exact_quotient(words.checked_mul(32)?, columns)?;
        QuantizationFormat::new(bits, exact_quotient(columns, groups)?).ok()
    });
    Ok(Some(by_shapes.unwrap_or(default)))
}

fn exact_quotient(a: usize, b: usize) -> Option<u64> {
    (a.checked_rem(b)? == 0).then(|| (a / b) as u64)
}

/// Of what is copied, this much is in memory twice.
const COPIED_BYTES: usize = 1 << 20;

/// The packed matrices of a checkpoint as files hold them.
pub(super) struct PackedBytes<'a> {
    matrices: Vec<(&'a PackedMatrix, String, QuantizedBytes)>,
}

impl<'a> PackedBytes<'a> {
    /// Those of `packed`, where they lie.
    ///
    /// # Errors
    /// [`ModelError::BadDtype`]; [`ModelError::NonFinite`] unless `non_finite` allows it.
    pub(super) fn of(
        packed: &'a [PackedMatrix],
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        non_finite: NonFinite,
    ) -> Result<Self, ModelError> {
        let bytes = |matrix: &'a PackedMatrix| {
            let (name, bytes) = matrix.bytes(config, checkpoint, non_finite)?;
            Ok((matrix, name, bytes))
        };
        Ok(Self { matrices: packed.iter().map(bytes).collect::<Result<_, _>>()? })
    }

    /// Bytes of all codes.
    pub(super) fn code_bytes(&self) -> usize {
        self.matrices.iter().map(|(_, _, bytes)| bytes.packed.len()).sum()
    }

    /// Moves their codes into `pages`, one after the other as a forward pass reads them.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the system does not let them be read from there.
    pub(super) fn move_codes(
        &mut self,
        mut pages: HugePages,
        config: &ModelConfig,
        checkpoint: &Checkpoint,
    ) -> Result<(), ModelError> {
        let mut sizes = Vec::with_capacity(self.matrices.len());
        for (matrix, _, bytes) in &mut self.matrices {
            let codes = std::mem::take(&mut bytes.packed);
            let found = located(config, checkpoint, &format!("{}.weight", matrix.path))?;
            for part in codes.chunks(COPIED_BYTES) {
                pages.push(part);
                found.file.release_of(&found.tensor);
            }
            sizes.push(codes.len());
        }
        let mut codes = pages.into_bytes().map_err(ModelError::io("copy", checkpoint.path()))?;
        for ((_, _, bytes), size) in self.matrices.iter_mut().zip(sizes) {
            bytes.packed = codes.split_to(size);
        }
        Ok(())
    }

    /// The matrices on `device`, in their order, with their paths.
    ///
    /// # Errors
    /// [`ModelError::Quantization`].
    pub(super) fn upload<B: Kernels>(
        self,
        device: &B::Device,
    ) -> impl Iterator<Item = Result<(&'a str, QuantizedWeight<B>), ModelError>> {
        self.matrices.into_iter().map(|(matrix, name, bytes)| {
            let weight = QuantizedWeight::from_bytes(bytes, matrix.dims, matrix.format, device);
            weight
                .map(|weight| (matrix.path.as_str(), weight))
                .map_err(|source| ModelError::Quantization { name, source })
        })
    }
}

impl PackedMatrix {
    /// The tensors of the matrix: their paths in the model and their shapes.
    pub(super) fn tensors(&self) -> [(String, Vec<usize>); 3] {
        let [rows, columns] = self.dims;
        let words = columns / 32 * self.format.bits() as usize;
        let groups = columns / self.format.group_size();
        [("weight", words), ("scales", groups), ("biases", groups)]
            .map(|(part, width)| (format!("{}.{part}", self.path), vec![rows, width]))
    }

    /// The matrix as a dense parameter, whose values are worked out each time they are asked for.
    ///
    /// # Errors
    /// [`ModelError::BadDtype`], [`ModelError::NonFinite`].
    pub(super) fn dequantized<'a>(
        &self,
        config: &ModelConfig,
        checkpoint: &'a Checkpoint,
        info: ParameterInfo,
    ) -> Result<Source<'a>, ModelError> {
        let found = located(config, checkpoint, &info.path)?;
        let (_, bytes) = self.bytes(config, checkpoint, NonFinite::Refuse)?;
        let (dims, format) = (self.dims, self.format);
        // Values are those of the scales' dtype.
        let dtype = file_dtype(bytes.dtype);
        let make = move |_: &[u8]| {
            let values = dequantize(&bytes, dims, format).expect("tensors of shapes that were checked");
            float_bytes(dtype, &values)
        };
        let span = found.tensor.range().clone();
        let place = Place::Made(Made { span, make: Arc::new(make) });
        let tensor = StoredTensor { dtype, shape: dims.to_vec(), place };
        Ok(Source { info, file: found.file, name: found.name, tensor, turned: false })
    }

    /// Codes, scales and biases where they lie, and what the file calls the codes.
    fn bytes(
        &self,
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        non_finite: NonFinite,
    ) -> Result<(String, QuantizedBytes), ModelError> {
        let [weight, scales, biases] = self.tensors().map(|(path, _)| located(config, checkpoint, &path));
        let (weight, scales, biases) = (weight?, scales?, biases?);
        if weight.tensor.dtype != Dtype::U32 {
            return Err(weight.bad_dtype("U32, as the configuration says that it is packed"));
        }
        let dtype = held_dtype(scales.tensor.dtype).ok_or_else(|| scales.bad_dtype("F32, F16 or BF16"))?;
        if biases.tensor.dtype != scales.tensor.dtype {
            return Err(biases.bad_dtype("that of the scales"));
        }
        let finite = |found: &Found<'_>| {
            let bytes = found.bytes();
            non_finite.judge(&found.name, first_non_finite(dtype, &bytes))?;
            Ok::<_, ModelError>(bytes)
        };
        let bytes = QuantizedBytes {
            packed: weight.bytes(),
            scales: finite(&scales)?,
            biases: finite(&biases)?,
            dtype,
        };
        Ok((weight.name, bytes))
    }
}

impl Found<'_> {
    /// Its values: where they lie, if the file has them row-major and little-endian.
    fn bytes(&self) -> Bytes {
        self.file
            .in_place(&self.tensor)
            .unwrap_or_else(|| self.file.bytes_of(&self.tensor).into_owned().into())
    }

    fn bad_dtype(&self, expected: &'static str) -> ModelError {
        ModelError::BadDtype { name: self.name.clone(), found: self.tensor.dtype.to_string(), expected }
    }
}

#[cfg(test)]
mod tests {
    use smelt_testkit::golden_folder;

    use super::*;

    #[test]
    fn codes_that_are_moved_are_those_of_the_files() {
        let folder = golden_folder("mlx_quant").join("mlx_8bit");
        let (config, checkpoint) =
            (ModelConfig::from_folder(&folder).unwrap(), Checkpoint::open(&folder).unwrap());
        let matrices = config.parameters().into_iter().filter_map(|info| {
            let dims = info.shape.as_slice().try_into().ok()?;
            Some((info.path.strip_suffix(".weight")?.to_owned(), dims))
        });
        let packed = packed_among(&config, &checkpoint, matrices).unwrap();
        assert!(packed.len() > 7, "{} packed matrices", packed.len());
        let read = || PackedBytes::of(&packed, &config, &checkpoint, NonFinite::Refuse).unwrap();
        let mut moved = read();
        let pages = HugePages::map(moved.code_bytes()).unwrap();
        moved.move_codes(pages, &config, &checkpoint).unwrap();
        assert!(moved.matrices == read().matrices);
    }
}
