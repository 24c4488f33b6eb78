//! From a model to a folder that transformers opens.

use std::borrow::Cow;
use std::fs;
use std::io::Write;
use std::path::Path;

use burn::module::Param;
use burn::tensor::Tensor;
use serde_json::{Map, Value};
use smelt_backend::{Kernels, to_host};

use super::atomic::write_atomic;
use super::checkpoint::WEIGHTS_FILE;
use super::transpose::transposed;
use super::writer::TensorFileWriter;
use crate::config::{CONFIG_FILE, ModelConfig, to_text};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::parameters::{ParameterInfo, ParameterVisitor};

/// File name of the settings that transformers generates with.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// The keys under which transformers 4 and 5 note the dtype of the weights.
const DTYPE_KEYS: [&str; 2] = ["torch_dtype", "dtype"];

/// Writes `config.json`, `model.safetensors` and, where absent, `generation_config.json` into `folder`.
///
/// Tensors are f32, under the family's names and in its orientation, tied weights once, sorted. Each file
/// is replaced atomically; the folder is made if it is not there. The configuration keeps every key; only
/// a noted dtype that is not that of the file becomes `float32`.
///
/// # Errors
/// [`ModelError::Io`].
pub fn save<B: Kernels>(config: &ModelConfig, model: &Decoder<B>, folder: &Path) -> Result<(), ModelError> {
    fs::create_dir_all(folder).map_err(ModelError::io("write", folder))?;
    let mut collect = Collect(TensorFileWriter::new());
    model.visit_parameters(&config.family.names, &mut collect);
    collect.0.write(&folder.join(WEIGHTS_FILE))?;
    write_json(&folder.join(CONFIG_FILE), &noting_f32(&config.raw))?;
    let generation = folder.join(GENERATION_CONFIG_FILE);
    if !generation.exists() {
        write_json(&generation, &generation_config(&config.raw))?;
    }
    Ok(())
}

fn write_json(path: &Path, object: &Map<String, Value>) -> Result<(), ModelError> {
    let text = to_text(&Value::Object(object.clone()));
    write_atomic(path, |file| file.write_all(text.as_bytes())).map_err(ModelError::io("write", path))
}

fn noting_f32(raw: &Map<String, Value>) -> Map<String, Value> {
    let mut noted = raw.clone();
    for key in DTYPE_KEYS {
        if let Some(dtype) = noted.get_mut(key).filter(|dtype| !dtype.is_null()) {
            *dtype = "float32".into();
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

/// Hands every parameter to the writer, to be fetched from its device when its turn comes.
struct Collect<'a>(TensorFileWriter<'a>);

impl<B: Kernels> ParameterVisitor<B> for Collect<'_> {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<B, D>>) {
        let tensor = parameter.val();
        let turn = info.transposed.then(|| info.shape.clone());
        self.0.add_f32(info.key.clone(), &info.checkpoint_shape(), move || {
            let values = to_host(tensor);
            Cow::Owned(match turn.as_deref() {
                Some([rows, columns]) => transposed(&values, *rows, *columns),
                _ => values,
            })
        });
    }
}
