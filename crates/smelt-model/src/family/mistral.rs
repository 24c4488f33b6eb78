//! Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama with a sliding window.

use serde_json::{Map, Value, json};

use super::{Family, llama, standard};
use crate::config::{DecoderConfig, Fields};
use crate::error::ModelError;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "mistral",
    architectures: &["MistralForCausalLM", "MistralModel"],
    decoder,
    names: llama::NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::RMS_NORM_KEYS, standard::WINDOW_KEYS],
    from_scratch,
};

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    windowed(&standard::LLAMA, fields, Some(4096))
}

/// Llama's blocks, all with the window of the configuration, or that of `absent` where it says nothing.
pub(super) fn windowed(
    keys: &standard::Standard,
    fields: &Fields<'_>,
    absent: Option<usize>,
) -> Result<DecoderConfig, ModelError> {
    let mut config = keys.decoder(fields)?;
    let window = standard::sliding_window(fields, absent)?;
    standard::sliding_layers(fields, &mut config, window, |_| true)?;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "attention_dropout": 0.0, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "sliding_window": null,
    });
    standard::from_scratch("mistral", "MistralForCausalLM", own)
}
