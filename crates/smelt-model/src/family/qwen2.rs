//! Qwen 1.5, 2 and 2.5 (Yang et al. 2024, arXiv:2407.10671): Llama with biases on queries, keys and values,
//! and windows from some layer on.

use serde_json::{Map, Value, json};

use super::{Family, llama, standard};
use crate::config::{DecoderConfig, Fields};
use crate::error::ModelError;
use crate::limits;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "qwen2",
    architectures: &["Qwen2ForCausalLM", "Qwen2Model"],
    decoder,
    names: llama::NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::RMS_NORM_KEYS, standard::WINDOW_KEYS],
    from_scratch,
};

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = standard::LLAMA.decoder(fields)?;
    config.attention.qkv_bias = true;
    windows(fields, &mut config)?;
    Ok(config)
}

/// Windows for the layers from `max_window_layers` on, if `use_sliding_window`.
pub(super) fn windows(fields: &Fields<'_>, config: &mut DecoderConfig) -> Result<(), ModelError> {
    let window = enabled_window(fields)?;
    let first = first_window_layer(fields)?;
    standard::sliding_layers(fields, config, window, |layer| layer >= first)
}

/// The window, if `use_sliding_window`.
pub(super) fn enabled_window(fields: &Fields<'_>) -> Result<Option<usize>, ModelError> {
    let enabled = fields.flag("use_sliding_window", false)?;
    Ok(standard::sliding_window(fields, Some(4096))?.filter(|_| enabled))
}

pub(super) fn first_window_layer(fields: &Fields<'_>) -> Result<usize, ModelError> {
    Ok(fields.optional_count(&["max_window_layers"], limits::LAYERS)?.unwrap_or(28))
}

/// What Qwen's families after the first start from.
pub(super) fn scratch_keys() -> Value {
    json!({
        "attention_dropout": 0.0, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "sliding_window": null, "use_sliding_window": false,
    })
}

fn from_scratch() -> Map<String, Value> {
    standard::from_scratch("qwen2", "Qwen2ForCausalLM", scratch_keys())
}
