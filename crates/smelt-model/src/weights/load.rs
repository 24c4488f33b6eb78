//! From a folder to a model: check every name and shape first, then read tensors and move them in turn.

use std::collections::HashSet;
use std::path::Path;

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use smelt_backend::{Kernels, float_tensor, tensor_over};

use super::checkpoint::Checkpoint;
use super::file::TensorFile;
use super::read_ahead::{HeldIn, NonFinite, ReadAhead, Source, Values};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Differences, MisShaped, ModelError};
use crate::parameters::{ParameterInfo, ParameterMapper};

const HEAD_PATH: &str = "lm_head.weight";
const EMBEDDING_PATH: &str = "embed_tokens.weight";

/// What a caller may choose about loading.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// What to do about weights that are NaN or infinite.
    pub non_finite: NonFinite,
    /// In which dtype parameters are held.
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
/// Those of [`load_with`].
pub fn load_for_training<B: Kernels>(
    folder: &Path,
    device: &B::Device,
) -> Result<(ModelConfig, Decoder<B>), ModelError> {
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
    let structure = Decoder::<B>::structure(&config.decoder, device);
    let parameters = structure.named_parameters(&config.family.names);
    check(config, checkpoint, &parameters)?;
    let sources: Result<Vec<_>, _> =
        parameters.into_iter().map(|info| source(config, checkpoint, info)).collect();
    let values = ReadAhead::new(sources?, options, B::keeps_weights_in);
    let mut fill = Fill { values, failure: None };
    let model = structure.map_parameters(&config.family.names, &mut fill);
    fill.failure.map_or(Ok(model), Err)
}

/// Where the checkpoint has the values of a parameter.
fn source<'a>(
    config: &ModelConfig,
    checkpoint: &'a Checkpoint,
    info: ParameterInfo,
) -> Result<Source<'a>, ModelError> {
    let name = name_in(config, checkpoint, &info).unwrap_or(&info.key).to_owned();
    match checkpoint.file_of(&name) {
        Some(file) => Ok(Source { info, file, name }),
        None => Err(ModelError::NoTensor { path: checkpoint.path().to_path_buf(), name }),
    }
}

/// Name of the parameter in this checkpoint, which may leave out the family's prefix.
fn name_in<'a>(config: &ModelConfig, checkpoint: &Checkpoint, info: &'a ParameterInfo) -> Option<&'a str> {
    let short = config.family.names.without_prefix(&info.key);
    [Some(info.key.as_str()), short].into_iter().flatten().find(|name| checkpoint.file_of(name).is_some())
}

fn check(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    parameters: &[ParameterInfo],
) -> Result<(), ModelError> {
    let mut differences = Differences::default();
    let mut used = HashSet::new();
    for info in parameters {
        let Some(name) = name_in(config, checkpoint, info) else {
            differences.missing.push(info.key.clone());
            continue;
        };
        used.insert(name);
        let found = checkpoint.file_of(name).map(|file| file.shape(name)).transpose()?.unwrap_or_default();
        let expected = info.checkpoint_shape();
        if found != expected {
            differences.mis_shaped.push(MisShaped { name: name.to_owned(), found: found.to_vec(), expected });
        }
    }
    let head = config.family.names.key(HEAD_PATH);
    let tied_head = |name: &str| config.decoder.tie_word_embeddings && name == head;
    let unexpected = checkpoint
        .names()
        .filter(|name| !used.contains(name) && !config.family.names.is_ignored(name) && !tied_head(name));
    differences.unexpected = unexpected.map(str::to_owned).collect();
    if !differences.is_empty() {
        let path = checkpoint.path().to_path_buf();
        return Err(ModelError::Mismatch { path, differences: Box::new(differences) });
    }
    check_tied_head(config, checkpoint, parameters)
}

/// A file may repeat the tied embedding as its head, but not hold another one that would be dropped.
fn check_tied_head(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    parameters: &[ParameterInfo],
) -> Result<(), ModelError> {
    let embedding = parameters.iter().find(|info| info.path == EMBEDDING_PATH);
    let name = embedding.and_then(|info| name_in(config, checkpoint, info));
    let head_key = config.family.names.key(HEAD_PATH);
    let (Some(head), Some(name)) = (checkpoint.file_of(&head_key), name) else { return Ok(()) };
    let Some(file) = checkpoint.file_of(name) else { return Ok(()) };
    if !config.decoder.tie_word_embeddings || same_values(head, &head_key, file, name)? {
        return Ok(());
    }
    Err(ModelError::TiedHeadDiffers { head: head_key, embedding: name.to_owned() })
}

fn same_values(a: &TensorFile, a_name: &str, b: &TensorFile, b_name: &str) -> Result<bool, ModelError> {
    let same = a.dtype(a_name)? == b.dtype(b_name)?
        && a.shape(a_name)? == b.shape(b_name)?
        && a.bytes(a_name)? == b.bytes(b_name)?;
    a.release(a_name);
    b.release(b_name);
    Ok(same)
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
