//! The registry of model families.
//!
//! A family is one file: how its `config.json` describes a decoder, the exceptions of its name map, and
//! how it starts from scratch. Adding one is that file, one line in [`FAMILIES`], and a golden folder.

mod experts;
mod gemma;
mod gemma2;
mod gemma3_text;
mod gpt2;
mod gpt_neox;
mod gptj;
mod llama;
mod mistral;
mod mixtral;
mod phi;
mod phi3;
mod qwen;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod standard;

use serde_json::{Map, Value};

use crate::config::{DecoderConfig, Fields, SectionKey};
use crate::error::{ModelError, nearest};
use crate::init::Distribution;
use crate::parameters::ParameterInfo;
use crate::weights::NameMap;

/// What is peculiar to one family of models.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// `architectures` in `config.json`, read where `model_type` is absent.
    pub architectures: &'static [&'static str],
    /// Reads the configuration.
    pub decoder: fn(&Fields<'_>) -> Result<DecoderConfig, ModelError>,
    /// From module paths to checkpoint keys.
    pub names: NameMap,
    /// How a parameter starts in training from scratch.
    pub init: fn(&ParameterInfo, &DecoderConfig) -> Distribution,
    /// What the `model` section of a run configuration may set, in groups that families share.
    pub section_keys: &'static [&'static [SectionKey]],
    /// A complete `config.json` but for the sizes, for training from scratch.
    pub from_scratch: fn() -> Map<String, Value>,
}

/// All families, in the order they are asked.
pub const FAMILIES: &[&Family] = &[
    &llama::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &phi::FAMILY,
    &phi3::FAMILY,
    &qwen::FAMILY,
    &qwen2::FAMILY,
    &qwen2_moe::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &gpt2::FAMILY,
    &gptj::FAMILY,
    &gpt_neox::FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3_text::FAMILY,
];

/// The family of a `config.json`, by `model_type`, else by `architectures`.
///
/// # Errors
/// [`ModelError::MissingKey`] with neither key, [`ModelError::UnknownFamily`] if none claims it.
pub fn detect(config: &Map<String, Value>) -> Result<&'static Family, ModelError> {
    let names = || FAMILIES.iter().map(|family| family.model_type);
    let architecture = config.get("architectures").and_then(|list| list.get(0));
    let Some(found) = config.get("model_type").filter(|value| !value.is_null()).or(architecture) else {
        let available: Vec<&str> = names().collect();
        return Err(ModelError::MissingKey {
            key: "model_type".to_owned(),
            expected: format!("one of {}", available.join(", ")),
        });
    };
    let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    let claims =
        |family: &&&Family| family.model_type == found || family.architectures.contains(&found.as_str());
    FAMILIES.iter().find(claims).copied().ok_or_else(|| ModelError::UnknownFamily {
        nearest: nearest(&found, names()),
        available: names().collect::<Vec<_>>().join(", "),
        found,
    })
}
