//! How a model wants to be sampled from: `general.sampling.*` of a GGUF file, `generation_config.json` of a folder.

use serde_json::{Map, Value as Json};
use smelt_model::ModelConfig;
use smelt_model::weights::{GENERATION_CONFIG_FILE, generation_config};

use super::read_config::shortest;
use super::value::{Metadata, Value};
use crate::{Companions, ConvertError};

/// What both formats can say: llama.cpp's name and Hugging Face's, as `convert_hf_to_gguf.py` pairs them.
const SETTINGS: [(&str, &str); 5] = [
    ("top_k", TOP_K),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("temp", TEMPERATURE),
    ("penalty_repeat", "repetition_penalty"),
];
/// The one setting that is a whole number.
const TOP_K: &str = "top_k";
const TEMPERATURE: &str = "temperature";

/// The `generation_config.json` among `companions`; nothing if there is none, or it is no object.
pub(super) fn settings(companions: &Companions) -> Map<String, Json> {
    let file = companions.get(GENERATION_CONFIG_FILE);
    file.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default()
}

/// Writes what `settings` say of sampling.
pub(super) fn write(settings: &Map<String, Json>, metadata: &mut Metadata) {
    for (name, key) in SETTINGS {
        let value = settings.get(key).and_then(|value| match key {
            TOP_K => value.as_u64().map(Value::Unsigned),
            _ => value.as_f64().map(Value::Float),
        });
        if let Some(value) = value {
            metadata.set(name_of(name), value);
        }
    }
}

/// The `generation_config.json` of a model of `config`: its special tokens, and what `metadata` say of sampling.
///
/// # Errors
/// [`ConvertError::BadMetadata`] for a setting that is no number.
pub(super) fn read(metadata: &Metadata, config: &ModelConfig) -> Result<Map<String, Json>, ConvertError> {
    let mut settings = generation_config(&config.raw);
    let special_tokens = settings.len();
    for (name, key) in SETTINGS {
        let value: Option<Json> = match key {
            TOP_K => metadata.count(&name_of(name))?.map(Json::from),
            _ => metadata.number(&name_of(name))?.map(|number| shortest(number).into()),
        };
        settings.extend(value.map(|value| (key.to_owned(), value)));
    }
    if settings.len() > special_tokens {
        settings.shift_remove("_from_model_config");
        // A temperature of 0 is llama.cpp's word for the likeliest token, and an error to transformers.
        let greedy = settings.get(TEMPERATURE).and_then(Json::as_f64).is_some_and(|value| value <= 0.0);
        if greedy {
            settings.shift_remove(TEMPERATURE);
        }
        settings.insert("do_sample".to_owned(), (!greedy).into());
    }
    Ok(settings)
}

fn name_of(setting: &str) -> String {
    format!("general.sampling.{setting}")
}
