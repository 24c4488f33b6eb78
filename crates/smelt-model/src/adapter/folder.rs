//! Adapters in folders: PEFT's in and out, those of mlx-lm in.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::Tensor;
use serde_json::Value;
use smelt_backend::{Kernels, to_host};

use super::config::{ADAPTER_CONFIG_FILE, AdapterConfig};
use super::mlx;
use super::rules::Rules;
use crate::config::{ModelConfig, to_text};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::json;
use crate::parameters::{ParameterInfo, ParameterVisitor};
use crate::weights::{NameMap, TensorFile, TensorFileWriter, UnwrittenFiles, transposed, write_atomic};

/// File name of an adapter's weights in PEFT's folders.
pub const ADAPTER_WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// The same as PEFT wrote them before safetensors.
const TORCH_WEIGHTS_FILE: &str = "adapter_model.bin";

/// In front of the names of all parameters in PEFT's files.
const PEFT_PREFIX: &str = "base_model.model.";

/// Tensors by name.
pub(super) type HostTensors = BTreeMap<String, HostTensor>;

/// A tensor of a file, in the orientation of files.
#[derive(Debug, Clone)]
pub(super) struct HostTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// An adapter on the host.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// What it changes.
    pub config: AdapterConfig,
    /// The file it came from.
    pub(super) path: PathBuf,
    /// By the names of the parameters.
    pub(super) tensors: HostTensors,
}

impl Adapter {
    /// `folder` holds an adapter.
    pub fn is_in(folder: &Path) -> bool {
        [ADAPTER_WEIGHTS_FILE, TORCH_WEIGHTS_FILE, mlx::MLX_WEIGHTS_FILE]
            .iter()
            .any(|name| folder.join(name).is_file())
    }

    /// Number of values.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.values.len() as u64).sum()
    }

    /// Reads the adapter in `folder`, of PEFT or of mlx-lm, for a model whose parameters are called as in `names`.
    ///
    /// # Errors
    /// [`ModelError::NoAdapter`], [`ModelError::BadAdapterValue`] for what is not supported, and those of reading the
    /// files.
    pub fn open(folder: &Path, names: &NameMap) -> Result<Self, ModelError> {
        let config: Value = json::read(&folder.join(ADAPTER_CONFIG_FILE))?;
        let file = [ADAPTER_WEIGHTS_FILE, TORCH_WEIGHTS_FILE].map(|name| folder.join(name));
        match file.into_iter().find(|path| path.is_file()) {
            Some(path) => {
                let config = AdapterConfig::from_json(config)?;
                let file = TensorFile::open(&path)?;
                let tensors = read(&file, |name| Ok(peft_name(name, names)))?;
                Ok(Self { config, path, tensors })
            }
            None if folder.join(mlx::MLX_WEIGHTS_FILE).is_file() => mlx::open(folder, &config, names),
            None => Err(ModelError::NoAdapter { folder: folder.to_owned() }),
        }
    }
}

/// All tensors of `file` under the names that `rename` gives them.
pub(super) fn read(
    file: &TensorFile,
    rename: impl Fn(&str) -> Result<String, ModelError>,
) -> Result<HostTensors, ModelError> {
    let mut tensors = HostTensors::new();
    for name in file.names() {
        let values = file.f32(name)?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ModelError::NonFinite { name: name.to_owned(), index, value: values[index] });
        }
        let known = rename(name)?;
        let tensor = HostTensor { shape: file.shape(name)?.to_vec(), values };
        if tensors.insert(known, tensor).is_some() {
            return Err(ModelError::TensorTwice { path: file.path().to_owned(), name: name.to_owned() });
        }
    }
    Ok(tensors)
}

/// The parameter that PEFT calls `name`: without its prefix, and without what some versions put in between.
fn peft_name(name: &str, names: &NameMap) -> String {
    let name = name.strip_prefix(PEFT_PREFIX).unwrap_or(name);
    let between = [".modules_to_save.default.", ".base_layer.", ".default."];
    let name = between.iter().fold(name.to_owned(), |name, part| name.replace(part, "."));
    let name = name.strip_suffix("lora_magnitude_vector.weight").map_or_else(
        || name.strip_suffix(".default").unwrap_or(&name).to_owned(),
        |module| format!("{module}lora_magnitude_vector"),
    );
    names.with_prefix(&name)
}

/// Writes the adapter that `decoder` carries into `folder`, as PEFT reads it.
///
/// # Errors
/// [`ModelError::Io`]; [`ModelError::BadAdapterValue`] if `config` is not that of the adapter.
pub fn save_adapter<B: Kernels>(
    model: &ModelConfig,
    decoder: &Decoder<B>,
    config: &AdapterConfig,
    folder: &Path,
) -> Result<(), ModelError> {
    adapter_files(model, decoder, config)?.write(folder)
}

/// What [`save_adapter`] writes.
///
/// # Errors
/// [`ModelError::BadAdapterValue`] if `config` is not that of the adapter.
pub fn adapter_files<B: Kernels>(
    model: &ModelConfig,
    decoder: &Decoder<B>,
    config: &AdapterConfig,
) -> Result<UnwrittenFiles, ModelError> {
    let names = &model.family.names;
    let mut file = TensorFileWriter::new();
    // PEFT wants to know where files of the base hold matrices as `[in, out]`.
    let mut turned = false;
    for (info, values) in held(model, decoder, config)? {
        let module = info.key.strip_suffix(".lora_A.weight");
        turned |= module.is_some_and(|module| names.is_transposed(&format!("{module}.weight")));
        let name = format!("{PEFT_PREFIX}{}", info.key);
        file.add_f32(name, &info.checkpoint_shape(), move || values.into());
    }
    let mut json = config.to_json();
    json["fan_in_fan_out"] = turned.into();
    Ok(UnwrittenFiles {
        tensors: vec![(ADAPTER_WEIGHTS_FILE.to_owned(), file)],
        json: vec![(ADAPTER_CONFIG_FILE.to_owned(), json)],
    })
}

/// The parameters of the adapter that `decoder` carries, with their values in the orientation of files.
pub(super) fn held<B: Kernels>(
    model: &ModelConfig,
    decoder: &Decoder<B>,
    config: &AdapterConfig,
) -> Result<Vec<(ParameterInfo, Vec<f32>)>, ModelError> {
    let mut collect = Collect { rules: Rules::new(config)?, held: Vec::new() };
    decoder.visit_parameters(&model.family.names, &mut collect);
    Ok(collect.held)
}

struct Collect<'a> {
    rules: Rules<'a>,
    held: Vec<(ParameterInfo, Vec<f32>)>,
}

impl<B: Kernels> ParameterVisitor<B> for Collect<'_> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        if !self.rules.holds(info) {
            return;
        }
        let values = to_host(parameter.val());
        let values = match (info.transposed, info.shape.as_slice()) {
            (true, [rows, columns]) => transposed(&values, *rows, *columns),
            _ => values,
        };
        self.held.push((info.clone(), values));
    }
}

pub(super) fn write_config(config: &Value, folder: &Path) -> Result<(), ModelError> {
    let (path, text) = (folder.join(ADAPTER_CONFIG_FILE), to_text(config));
    write_atomic(&path, |file| file.write_all(text.as_bytes())).map_err(ModelError::io("write", &path))
}
