//! From a model to a folder that transformers opens.

use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{DType, Tensor};
use safetensors::Dtype;
use serde_json::{Map, Value};
use smelt_backend::{Kernels, to_host};

use super::checkpoint::{INDEX_FILE, WEIGHTS_FILE};
use super::shards::{self, Weight, divide, is_shard};
use super::transpose::transposed;
use super::unwritten::UnwrittenFiles;
use super::writer::{TensorFileWriter, Values};
use crate::config::{CONFIG_FILE, ModelConfig};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::parameters::{ParameterInfo, ParameterVisitor, Role};

/// File name of the settings that transformers generates with.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// The keys under which transformers 4 and 5 note the dtype of the weights.
const DTYPE_KEYS: [&str; 2] = ["torch_dtype", "dtype"];

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
/// sorted within a file: `model.safetensors`, or shards with their index. Each file is replaced atomically; the folder is
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
    let mut collect = Collect(Vec::new());
    model.visit_parameters(&config.family.names, &mut collect);
    let parameters = collect.0.iter().map(|weight| weight.elements() as u64).sum();
    let dtype = commonest_dtype(&collect.0);
    let shards = divide(collect.0, options.max_shard_bytes);
    let index = (shards.len() > 1).then(|| (INDEX_FILE.to_owned(), shards::index(&shards, parameters)));
    let json = [
        (CONFIG_FILE.to_owned(), Value::Object(noting(dtype, &config.raw))),
        (GENERATION_CONFIG_FILE.to_owned(), Value::Object(generation_config(&config.raw))),
    ];
    UnwrittenFiles {
        tensors: shards.into_iter().map(|(name, weights)| (name, tensor_file(weights))).collect(),
        json: index.into_iter().chain(json).collect(),
    }
}

fn tensor_file(weights: Vec<Pending>) -> TensorFileWriter<'static> {
    let mut file = TensorFileWriter::new();
    for weight in weights {
        file.add(weight.name, weight.dtype, &weight.shape, weight.values);
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

/// The dtype of most values, as transformers names it.
fn commonest_dtype(weights: &[Pending]) -> &'static str {
    let elements =
        |dtype| weights.iter().filter(|weight| weight.dtype == dtype).map(Pending::elements).sum::<usize>();
    let names = [(Dtype::F32, "float32"), (Dtype::BF16, "bfloat16"), (Dtype::F16, "float16")];
    names.into_iter().max_by_key(|(dtype, _)| elements(*dtype)).map_or("float32", |(_, name)| name)
}

fn noting(dtype: &str, raw: &Map<String, Value>) -> Map<String, Value> {
    let mut noted = raw.clone();
    for key in DTYPE_KEYS {
        if let Some(found) = noted.get_mut(key).filter(|found| !found.is_null()) {
            *found = dtype.into();
        }
    }
    noted
}

/// What transformers itself derives from a configuration that has no generation settings.
fn generation_config(raw: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = Map::from_iter([("_from_model_config".to_owned(), true.into())]);
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(id) = raw.get(key).filter(|id| !id.is_null()) {
            settings.insert(key.to_owned(), id.clone());
        }
    }
    settings
}

/// A parameter that is fetched from its device when its turn comes.
struct Pending {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    values: Box<dyn FnOnce() -> Values<'static> + Send>,
}

impl Weight for Pending {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        (self.elements() * self.dtype.bitsize() / 8) as u64
    }
}

impl Pending {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Takes every parameter that is no adapter's as it is named and turned in files.
struct Collect(Vec<Pending>);

impl<B: Kernels> ParameterVisitor<B> for Collect {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        if info.role == Role::Adapter {
            return;
        }
        let tensor = parameter.val();
        let dtype = match tensor.dtype() {
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            _ => Dtype::F32,
        };
        let turn = info.transposed.then(|| info.shape.clone());
        let values = move || match (dtype, turn.as_deref()) {
            (Dtype::F32, Some([rows, columns])) => {
                Values::F32(transposed(&to_host(tensor), *rows, *columns).into())
            }
            (Dtype::F32, _) => Values::F32(to_host(tensor).into()),
            (_, Some([rows, columns])) => {
                let values = tensor.into_data().bytes;
                Values::Bytes(transposed(values.as_chunks::<2>().0, *rows, *columns).into_flattened().into())
            }
            (_, _) => Values::Bytes(tensor.into_data().bytes.to_vec().into()),
        };
        let (name, shape) = (info.key.clone(), info.checkpoint_shape());
        self.0.push(Pending { name, shape, dtype, values: Box::new(values) });
    }
}
