//! From a folder to a model: check every name and shape first, then read tensors and move them in turn.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use smelt_backend::kernels::QuantizedWeight;
use smelt_backend::kernels::quantized::quantize;
use smelt_backend::{Kernels, float_tensor, tensor_over};

use super::check::{check, located};
use super::checkpoint::Checkpoint;
use super::huge_pages::HugePages;
use super::packed::{PackedBytes, PackedMatrix, packed_among, packed_matrices};
use super::quantize::stored_matrix;
use super::read_ahead::{HeldIn, NonFinite, ReadAhead, Source, Values};
use crate::blocks::Matrix;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::parameters::{ParameterInfo, ParameterMapper};
use crate::quantization::{QuantizationPlan, QuantizationRules};

/// What a caller may choose about loading.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// What to do about weights that are NaN or infinite.
    pub non_finite: NonFinite,
    /// In which dtype parameters are held. Packed matrices stay packed.
    pub held_in: HeldIn,
}

/// Loads the model in `folder` onto `device` for inference, with the default [`LoadOptions`].
///
/// # Errors
/// Those of [`load_with`].
pub fn load<B: Kernels>(folder: &Path, device: &B::Device) -> Result<(ModelConfig, Decoder<B>), ModelError> {
    load_with(folder, LoadOptions::default(), device)
}

/// Loads the model in `folder` onto `device` for training: every parameter in f32, in memory of its own.
///
/// # Errors
/// [`ModelError::Packed`] for a quantized model; those of [`load_with`].
pub fn load_for_training<B: Kernels>(
    folder: &Path,
    device: &B::Device,
) -> Result<(ModelConfig, Decoder<B>), ModelError> {
    if ModelConfig::from_folder(folder)?.quantization.is_some() {
        return Err(ModelError::Packed { folder: folder.to_path_buf() });
    }
    load_with(folder, LoadOptions { held_in: HeldIn::F32, ..LoadOptions::default() }, device)
}

/// Loads the model in `folder` onto `device`.
///
/// # Errors
/// Those of [`ModelConfig::from_folder`], [`Checkpoint::open`] and [`load_weights`].
pub fn load_with<B: Kernels>(
    folder: &Path,
    options: LoadOptions,
    device: &B::Device,
) -> Result<(ModelConfig, Decoder<B>), ModelError> {
    let config = ModelConfig::from_folder(folder)?;
    let checkpoint = Checkpoint::open(folder)?;
    let model = load_weights(&config, &checkpoint, options, device)?;
    Ok((config, model))
}

/// Builds the model of `config` with the weights of `checkpoint` on `device`, below an adapter or for inference, with its
/// matrices quantized as `rules` say while they are read; the configuration is that of the result.
///
/// One matrix at a time exists in floats. A model that is quantized already stays as it is.
///
/// # Errors
/// Those of [`load_weights`] and of [`QuantizationRules::plan`]; [`ModelError::Quantization`] for a matrix that cannot be
/// quantized.
pub fn load_quantized<B: Kernels>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    rules: &QuantizationRules,
    device: &B::Device,
) -> Result<(ModelConfig, Decoder<B>), ModelError> {
    let plan = match config.quantization {
        Some(_) => None,
        None => Some(rules.plan(config)?),
    };
    let model = load_planned(config, checkpoint, plan.as_ref(), LoadOptions::default(), device)?;
    Ok((plan.map_or_else(|| config.clone(), |plan| plan.applied_to(config)), model))
}

/// Builds the model of `config` with the weights of `checkpoint` on `device`.
///
/// Several tensors are read at once; host memory peaks at 64 MiB or the largest tensor besides the model. A
/// backend that computes in the machine's memory uses what it can where the file is mapped, without a copy.
///
/// # Errors
/// [`ModelError::Mismatch`] with all that is missing, unexpected or mis-shaped;
/// [`ModelError::TiedHeadDiffers`]; [`ModelError::BadDtype`]; [`ModelError::NonFinite`] unless `options`
/// allows it.
pub fn load_weights<B: Kernels>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    options: LoadOptions,
    device: &B::Device,
) -> Result<Decoder<B>, ModelError> {
    load_planned(config, checkpoint, None, options, device)
}

fn load_planned<B: Kernels>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    plan: Option<&QuantizationPlan>,
    options: LoadOptions,
    device: &B::Device,
) -> Result<Decoder<B>, ModelError> {
    let names = &config.family.names;
    let mut model = Decoder::<B>::structure(&config.decoder, device);
    let packed = packed_matrices(config, checkpoint, &mut model)?;
    let modules: HashSet<&str> = packed.iter().map(|matrix| matrix.path.as_str()).collect();
    let mut parameters = model.named_parameters(names);
    parameters.retain(|info| !info.path.strip_suffix(".weight").is_some_and(|path| modules.contains(path)));
    check(config, checkpoint, &parameters, &packed)?;
    fill_packed(config, checkpoint, &packed, options.non_finite, &mut model, device)?;
    if let Some(plan) = plan {
        quantize_matrices(config, checkpoint, plan, &mut model, device)?;
        parameters.retain(|info| plan.format_of_parameter(&info.path).is_none());
    }

    let sources: Result<Vec<_>, _> =
        parameters.into_iter().map(|info| Source::find(config, checkpoint, info)).collect();
    let values = ReadAhead::new(sources?, options, B::keeps_weights_in);
    let mut fill = Fill { values, failure: None };
    let model = model.map_parameters(names, &mut fill);
    fill.failure.map_or(Ok(model), Err)
}

/// Where `checkpoint` has the values of all parameters of a model of `config`, in their order; packed matrices as what
/// they stand for.
///
/// # Errors
/// [`ModelError::Mismatch`] with all that is missing, unexpected or mis-shaped; [`ModelError::TiedHeadDiffers`];
/// [`ModelError::BadDtype`] and [`ModelError::Quantization`] for packed matrices that are none.
pub fn locate<'a>(config: &ModelConfig, checkpoint: &'a Checkpoint) -> Result<Vec<Source<'a>>, ModelError> {
    let parameters = config.parameters();
    let matrices = parameters.iter().filter_map(|info| {
        let dims = info.shape.as_slice().try_into().ok()?;
        Some((info.path.strip_suffix(".weight")?.to_owned(), dims))
    });
    let packed = packed_among(config, checkpoint, matrices)?;
    let by_path: HashMap<&str, &PackedMatrix> =
        packed.iter().map(|matrix| (matrix.path.as_str(), matrix)).collect();
    let of = |info: &ParameterInfo| by_path.get(info.path.strip_suffix(".weight")?).copied();
    let dense: Vec<ParameterInfo> = parameters.iter().filter(|info| of(info).is_none()).cloned().collect();
    check(config, checkpoint, &dense, &packed)?;
    let source = |info: &ParameterInfo| match of(info) {
        Some(matrix) => matrix.dequantized(config, checkpoint, info.clone()),
        None => Source::find(config, checkpoint, info.clone()),
    };
    parameters.iter().map(source).collect()
}

/// Puts packed matrices in their places: as they lie in the files or in huge pages where the backend can read them there.
fn fill_packed<B: Kernels>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    packed: &[PackedMatrix],
    non_finite: NonFinite,
    model: &mut Decoder<B>,
    device: &B::Device,
) -> Result<(), ModelError> {
    let in_place = B::keeps_weights_in(DType::U32);
    let is_multiplied = |matrix: &PackedMatrix| match matrix.path.as_str() {
        "embed_tokens" => config.decoder.tie_word_embeddings,
        path => path != "embed_positions",
    };
    let mut matrices = model.matrices_mut();
    // What is uploaded is read in turn.
    for packed in packed.chunk_by(|a, b| in_place && is_multiplied(a) == is_multiplied(b)) {
        let mut bytes = PackedBytes::of(packed, config, checkpoint, non_finite)?;
        if in_place
            && is_multiplied(&packed[0])
            && let Some(pages) = HugePages::for_codes(bytes.code_bytes())
        {
            bytes.move_codes(pages, config, checkpoint)?;
        }
        for weight in bytes.upload::<B>(device) {
            let (path, weight) = weight?;
            let place = matrices.find(|(place, _)| place == path);
            let (_, matrix) = place.expect("packed matrices are in the order of the model's");
            *matrix = Matrix::Quantized(weight);
        }
    }
    Ok(())
}

/// Puts matrices in their places that are packed on the way.
fn quantize_matrices<B: Kernels>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    plan: &QuantizationPlan,
    model: &mut Decoder<B>,
    device: &B::Device,
) -> Result<(), ModelError> {
    for (path, matrix) in model.matrices_mut() {
        let Some(format) = plan.format_of(&path) else { continue };
        let (name, dims) = (format!("{path}.weight"), matrix.dims());
        let (values, dtype) = stored_matrix(config, checkpoint, &name, dims)?;
        let weight = quantize(&values, dims, format, dtype)
            .and_then(|bytes| QuantizedWeight::from_bytes(bytes, dims, format, device));
        let name = || config.family.names.key(&name);
        *matrix =
            Matrix::Quantized(weight.map_err(|source| ModelError::Quantization { name: name(), source })?);
    }
    Ok(())
}

impl<'a> Source<'a> {
    fn find(
        config: &ModelConfig,
        checkpoint: &'a Checkpoint,
        info: ParameterInfo,
    ) -> Result<Self, ModelError> {
        let found = located(config, checkpoint, &info.path)?;
        Ok(Self { info, file: found.file, name: found.name, tensor: found.tensor, turned: found.transposed })
    }
}

/// Fills an empty structure from a checkpoint that was checked against it.
struct Fill<'a> {
    values: ReadAhead<'a>,
    failure: Option<ModelError>,
}

impl<B: Backend> ParameterMapper<B> for Fill<'_> {
    fn map<const D: usize>(
        &mut self,
        _: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        if self.failure.is_some() {
            return parameter;
        }
        match self.values.next() {
            Ok(values) => {
                let device = parameter.lazy_device();
                let shape = parameter.lazy_shape().dims();
                let tensor = match values {
                    Values::F32(values) => float_tensor(values, shape, &device),
                    Values::Stored(dtype, bytes) => tensor_over(bytes, dtype, shape, &device),
                };
                let id = parameter.id;
                parameter.transform_for_load(tensor, id)
            }
            Err(failure) => {
                self.failure = Some(failure);
                parameter
            }
        }
    }
}
