//! Qwen 3 (Yang et al. 2025, arXiv:2505.09388): Llama with a norm on each head's queries and keys.

use serde_json::{Map, Value, json};

use super::{Family, llama, qwen2, standard};
use crate::config::{DecoderConfig, Fields, SectionKey};
use crate::error::ModelError;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "qwen3",
    architectures: &["Qwen3ForCausalLM", "Qwen3Model"],
    decoder,
    names: llama::NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::RMS_NORM_KEYS, standard::WINDOW_KEYS, OWN_KEYS],
    from_scratch,
};

pub(super) const OWN_KEYS: &[SectionKey] =
    &[SectionKey { names: &["attention_bias"], writes: &["attention_bias"] }];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = blocks(fields)?;
    qwen2::windows(fields, &mut config)?;
    Ok(config)
}

/// Qwen 3's blocks without windows.
pub(super) fn blocks(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = standard::LLAMA.decoder(fields)?;
    config.attention.qkv_bias = fields.flag("attention_bias", false)?;
    config.attention.output_bias = config.attention.qkv_bias;
    config.attention.query_key_norm = Some(config.norm);
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let mut raw = standard::from_scratch("qwen3", "Qwen3ForCausalLM", qwen2::scratch_keys());
    raw.extend([("attention_bias".to_owned(), json!(false))]);
    raw
}
