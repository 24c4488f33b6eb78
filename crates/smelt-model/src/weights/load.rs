//! From a folder to a model: check every name and shape first, then move one tensor at a time.

use std::collections::HashSet;
use std::path::Path;

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use smelt_backend::Kernels;

use super::checkpoint::Checkpoint;
use super::reader::TensorFileReader;
use super::transpose::transposed;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Differences, MisShaped, ModelError};
use crate::parameters::{ParameterInfo, ParameterMapper};

const HEAD_PATH: &str = "lm_head.weight";
const EMBEDDING_PATH: &str = "embed_tokens.weight";

/// Loads the model in `folder` onto `device`, in f32.
///
/// # Errors
/// Those of [`ModelConfig::from_folder`], [`Checkpoint::open`] and [`load_weights`].
pub fn load<B: Kernels>(folder: &Path, device: &B::Device) -> Result<(ModelConfig, Decoder<B>), ModelError> {
    let config = ModelConfig::from_folder(folder)?;
    let checkpoint = Checkpoint::open(folder)?;
    let model = load_weights(&config, &checkpoint, device)?;
    Ok((config, model))
}

/// Builds the model of `config` with the weights of `checkpoint`, in f32, on `device`.
///
/// # Errors
/// [`ModelError::Mismatch`] with all that is missing, unexpected or mis-shaped;
/// [`ModelError::TiedHeadDiffers`]; [`ModelError::BadDtype`].
pub fn load_weights<B: Kernels>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    device: &B::Device,
) -> Result<Decoder<B>, ModelError> {
    let structure = Decoder::<B>::structure(&config.decoder, device);
    check(config, checkpoint, &structure.named_parameters(&config.family.names))?;
    let mut fill = Fill { config, checkpoint, failure: None };
    let model = structure.map_parameters(&config.family.names, &mut fill);
    fill.failure.map_or(Ok(model), Err)
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

fn same_values(
    a: &TensorFileReader,
    a_name: &str,
    b: &TensorFileReader,
    b_name: &str,
) -> Result<bool, ModelError> {
    let same = a.dtype(a_name)? == b.dtype(b_name)?
        && a.shape(a_name)? == b.shape(b_name)?
        && a.bytes(a_name)? == b.bytes(b_name)?;
    a.release(a_name);
    b.release(b_name);
    Ok(same)
}

/// Fills an empty structure from a checkpoint that was checked against it.
struct Fill<'a> {
    config: &'a ModelConfig,
    checkpoint: &'a Checkpoint,
    failure: Option<ModelError>,
}

impl<B: Backend> ParameterMapper<B> for Fill<'_> {
    fn map<const D: usize>(
        &mut self,
        info: &ParameterInfo,
        parameter: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        if self.failure.is_some() {
            return parameter;
        }
        match self.values(info) {
            Ok(values) => {
                let data = TensorData::new(values, info.shape.clone());
                let tensor = Tensor::from_data(data, &parameter.lazy_device());
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

impl Fill<'_> {
    fn values(&self, info: &ParameterInfo) -> Result<Vec<f32>, ModelError> {
        let no_tensor =
            || ModelError::NoTensor { path: self.checkpoint.path().to_path_buf(), name: info.key.clone() };
        let name = name_in(self.config, self.checkpoint, info).ok_or_else(no_tensor)?;
        let file = self.checkpoint.file_of(name).ok_or_else(no_tensor)?;
        let values = file.f32_of_shape(name, &info.checkpoint_shape())?;
        file.release(name);
        Ok(match (info.transposed, info.shape.as_slice()) {
            (true, [rows, columns]) => transposed(&values, *columns, *rows),
            _ => values,
        })
    }
}
