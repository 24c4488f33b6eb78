//! Configurations: a Hugging Face `config.json`, kept whole, and what the decoder reads out of it.

mod decoder;
mod fields;
mod rope;
mod section;

use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value};

pub use decoder::{
    AttentionConfig, DecoderConfig, DropoutConfig, ExpertsConfig, Gate, HeadConfig, LayerConfig, MlpConfig,
    NormConfig, NormKind, Positions, Projections, Residual,
};
pub use fields::Fields;
pub use rope::{ROPE_KEYS, RopeKeys, rope, rope_of};
pub use section::SectionKey;

use crate::error::ModelError;
use crate::family::{self, Family};
use crate::json;
use crate::quantization::Quantization;
use crate::weights::dtype_name;

/// File name of a model's configuration.
pub const CONFIG_FILE: &str = "config.json";

/// The keys under which transformers 4 and 5 note the dtype of the weights.
const DTYPE_KEYS: [&str; 2] = ["torch_dtype", "dtype"];

/// A model's configuration: its family, its JSON without loss, and the decoder it describes.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The family that reads it.
    pub family: &'static Family,
    /// Every key of the JSON, known or not, in the order of the file.
    pub raw: Map<String, Value>,
    /// What the blocks are built from.
    pub decoder: DecoderConfig,
    /// How the weights are packed, if they are.
    pub quantization: Option<Quantization>,
}

impl ModelConfig {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// Those of [`ModelConfig::from_file`].
    pub fn from_folder(folder: &Path) -> Result<Self, ModelError> {
        Self::from_file(&folder.join(CONFIG_FILE))
    }

    /// Reads the configuration in `path`.
    ///
    /// # Errors
    /// [`ModelError::Io`], [`ModelError::TooLarge`], [`ModelError::Json`], and those of
    /// [`ModelConfig::from_json`].
    pub fn from_file(path: &Path) -> Result<Self, ModelError> {
        json::read(path).and_then(Self::from_json)
    }

    /// Reads a `config.json` as transformers 4 or 5 writes it; unknown keys are kept.
    ///
    /// # Errors
    /// [`ModelError::UnknownFamily`] if no family claims `model_type` or `architectures`;
    /// [`ModelError::MissingKey`] and [`ModelError::BadValue`] for shapes and options that do not fit.
    pub fn from_json(value: Value) -> Result<Self, ModelError> {
        let Value::Object(raw) = value else {
            return Err(ModelError::BadValue {
                key: CONFIG_FILE.to_owned(),
                found: kind_of(&value).to_owned(),
                expected: "a JSON object".to_owned(),
            });
        };
        let family = family::detect(&raw)?;
        let decoder = (family.decoder)(&Fields::new(&raw))?;
        let quantization = Quantization::of(&raw)?;
        Ok(Self { family, raw, decoder, quantization })
    }

    /// A configuration for training from scratch, from the `model` section of a run configuration.
    ///
    /// Takes the keys of the family's `config.json`, Hugging Face's common names (`hidden_size`) and the
    /// aliases `d_model`, `n_layers`, `n_heads`, `d_ff`, `max_seq_len`; `model_type` defaults to `gpt2`.
    /// What the section leaves out gets the family's value for training from scratch. The result is a
    /// complete `config.json` that transformers accepts.
    ///
    /// # Errors
    /// [`ModelError::UnknownKey`] with the nearest known key, [`ModelError::KeyTwice`], and those of
    /// [`ModelConfig::from_json`].
    pub fn from_section(section: &Map<String, Value>) -> Result<Self, ModelError> {
        section::complete(section).and_then(|raw| Self::from_json(Value::Object(raw)))
    }

    /// The `config.json`, with every key that was read.
    pub fn to_json(&self) -> Value {
        Value::Object(self.raw.clone())
    }

    /// The `config.json` as text, indented as transformers does, with a final newline.
    pub fn to_json_text(&self) -> String {
        to_text(&self.to_json())
    }

    /// The same model with weights that are packed as `quantization` says.
    pub fn quantized(&self, quantization: Quantization) -> Self {
        let mut config = self.clone();
        quantization.write(&mut config.raw);
        config.quantization = Some(quantization);
        config
    }

    /// The same model with weights in floats.
    pub fn dequantized(&self) -> Self {
        let mut config = self.clone();
        Quantization::remove(&mut config.raw);
        config.quantization = None;
        config
    }

    /// The dtype that is noted for the weights, as transformers names it.
    pub fn noted_dtype(&self) -> Option<&str> {
        DTYPE_KEYS.iter().find_map(|key| self.raw.get(*key)?.as_str())
    }

    /// The same where the dtype of the weights, if it is noted, is `dtype`: f32, f16 or bf16.
    pub fn noting_dtype(&self, dtype: Dtype) -> Self {
        let mut config = self.clone();
        for key in DTYPE_KEYS {
            let noted = config.raw.get_mut(key).filter(|found| !found.is_null());
            if let Some((noted, name)) = noted.zip(dtype_name(dtype)) {
                *noted = name.into();
            }
        }
        config
    }

    /// Token ids that end a text: `eos_token_id`, one or several, or none.
    pub fn eos_token_ids(&self) -> Vec<u32> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.raw.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

/// JSON as transformers writes it: two spaces, a final newline.
pub(crate) fn to_text(value: &Value) -> String {
    format!("{value:#}\n")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
