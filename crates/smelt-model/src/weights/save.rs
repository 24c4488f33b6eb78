//! From a model to a folder that transformers opens.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value};
use smelt_backend::Kernels;

use super::checkpoint::{INDEX_FILE, WEIGHTS_FILE};
use super::pending::{Pending, pending};
use super::shards::{self, divide, is_shard};
use super::unwritten::{UnwrittenFiles, write_files};
use super::writer::TensorFileWriter;
use crate::config::{CONFIG_FILE, ModelConfig};
use crate::decoder::Decoder;
use crate::error::ModelError;

/// File name of the settings that transformers generates with.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// What a caller may choose about saving.
#[derive(Debug, Clone, Copy)]
pub struct SaveOptions {
    /// Weights beyond this go into several files; a larger tensor gets one of its own.
    pub max_shard_bytes: u64,
}

impl Default for SaveOptions {
    /// Shards of 50 GB, as transformers 5.
    fn default() -> Self {
        Self { max_shard_bytes: 50_000_000_000 }
    }
}

/// Writes `config.json`, the weights and, where absent, `generation_config.json` into `folder`, with the
/// default [`SaveOptions`].
///
/// # Errors
/// [`ModelError::Io`].
pub fn save<B: Kernels>(config: &ModelConfig, model: &Decoder<B>, folder: &Path) -> Result<(), ModelError> {
    save_with(config, model, SaveOptions::default(), folder)
}

/// As [`save`], with `options`.
///
/// Tensors keep the dtype they are held in, under the family's names and in its orientation, tied weights once,
/// sorted within a file; those of a quantized model are packed, and called and joined as mlx-lm does it: `model.safetensors`, or shards with their index. Each file is replaced atomically; the folder is
/// made if it is not there, and safetensors of an earlier save that the new ones replace are removed last.
/// The configuration keeps every key; only a noted dtype becomes that of the file.
///
/// # Errors
/// [`ModelError::Io`].
pub fn save_with<B: Kernels>(
    config: &ModelConfig,
    model: &Decoder<B>,
    options: SaveOptions,
    folder: &Path,
) -> Result<(), ModelError> {
    let mut files = model_files(config, model, options);
    if folder.join(GENERATION_CONFIG_FILE).exists() {
        files.json.retain(|(name, _)| name != GENERATION_CONFIG_FILE);
    }
    let written: Vec<String> = files.names().map(str::to_owned).collect();
    files.write(folder)?;
    remove_replaced(folder, &written)
}

/// What [`save_with`] writes into a new folder.
pub fn model_files<B: Kernels>(
    config: &ModelConfig,
    model: &Decoder<B>,
    options: SaveOptions,
) -> UnwrittenFiles {
    let Divided { tensors, mut json } = divided(config, pending(config, model), options.max_shard_bytes);
    json.push((GENERATION_CONFIG_FILE.to_owned(), Value::Object(generation_config(&config.raw))));
    UnwrittenFiles { tensors, json }
}

/// Writes `weights`, their index and the configuration into `folder`.
///
/// # Errors
/// [`ModelError::Io`], and what making the values returns.
pub(super) fn write_weights(
    config: &ModelConfig,
    weights: Vec<Pending<'_>>,
    max_shard_bytes: u64,
    folder: &Path,
) -> Result<(), ModelError> {
    let Divided { tensors, json } = divided(config, weights, max_shard_bytes);
    write_files(tensors, json, folder)
}

/// Files of weights, and what belongs to them.
struct Divided<'a> {
    tensors: Vec<(String, TensorFileWriter<'a>)>,
    json: Vec<(String, Value)>,
}

fn divided<'a>(config: &ModelConfig, weights: Vec<Pending<'a>>, max_shard_bytes: u64) -> Divided<'a> {
    let mlx = config.quantization.is_some();
    let parameters = weights.iter().map(|weight| weight.parameters(config)).sum();
    let dtype = commonest_dtype(&weights);
    let shards = divide(weights, max_shard_bytes);
    // mlx-lm writes an index of one file, too.
    let index =
        (mlx || shards.len() > 1).then(|| (INDEX_FILE.to_owned(), shards::index(&shards, parameters)));
    let json = [(CONFIG_FILE.to_owned(), config.noting_dtype(dtype).to_json())];
    Divided {
        tensors: shards.into_iter().map(|(name, weights)| (name, tensor_file(weights, mlx))).collect(),
        json: index.into_iter().chain(json).collect(),
    }
}

fn tensor_file(weights: Vec<Pending<'_>>, mlx: bool) -> TensorFileWriter<'_> {
    let mut file = TensorFileWriter::new();
    if mlx {
        file = file.metadata("format", "mlx");
    }
    for weight in weights {
        file.add_fallible(weight.name, weight.dtype, &weight.shape, weight.values);
    }
    file
}

/// Removes weights of an earlier save, which readers would prefer or mistake for these.
fn remove_replaced(folder: &Path, written: &[String]) -> Result<(), ModelError> {
    for entry in fs::read_dir(folder).map_err(ModelError::io("read", folder))? {
        let name = entry.map_err(ModelError::io("read", folder))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let weights = name == WEIGHTS_FILE || name == INDEX_FILE || is_shard(name);
        if weights && !written.iter().any(|file| file == name) {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(ModelError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// The dtype of most values.
fn commonest_dtype(weights: &[Pending<'_>]) -> Dtype {
    let elements =
        |dtype| weights.iter().filter(|weight| weight.dtype == dtype).map(Pending::elements).sum::<usize>();
    let dtypes = [Dtype::F32, Dtype::BF16, Dtype::F16];
    dtypes.into_iter().max_by_key(|dtype| elements(*dtype)).unwrap_or(Dtype::F32)
}

/// What transformers itself derives from a configuration that has no generation settings.
pub fn generation_config(raw: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = Map::from_iter([("_from_model_config".to_owned(), true.into())]);
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(id) = raw.get(key).filter(|id| !id.is_null()) {
            settings.insert(key.to_owned(), id.clone());
        }
    }
    settings
}
