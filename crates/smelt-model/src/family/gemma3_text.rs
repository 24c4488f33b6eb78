//! Gemma 3, text only (Kamath et al. 2025, arXiv:2503.19786): Gemma 2 without soft-caps, with norms on queries
//! and keys, and a rotation of its own for the layers with a window.

use serde_json::{Map, Value, json};

use super::{Family, gemma, gemma2, standard};
use crate::config::{DecoderConfig, Fields, Positions, ROPE_KEYS, RopeKeys, SectionKey, rope_of};
use crate::error::ModelError;
use crate::limits;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "gemma3_text",
    architectures: &["Gemma3ForCausalLM", "Gemma3TextModel"],
    decoder,
    names: gemma2::NAMES,
    init: standard::init,
    section_keys: &[
        standard::SECTION_KEYS,
        standard::RMS_NORM_KEYS,
        standard::WINDOW_KEYS,
        gemma2::OWN_KEYS,
        OWN_KEYS,
    ],
    from_scratch,
};

const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["rope_local_base_freq"], writes: &["rope_local_base_freq"] },
    SectionKey { names: &["sliding_window_pattern"], writes: &["sliding_window_pattern"] },
];

const PATTERN: &[&str] = &["sliding_window_pattern", "_sliding_window_pattern"];

/// Of the layers that see everything.
const GLOBAL: RopeKeys = RopeKeys { default_theta: 1e6, ..ROPE_KEYS };
/// Of the layers with a window.
const LOCAL: RopeKeys = RopeKeys { theta: &["rope_local_base_freq"], ..ROPE_KEYS };

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = gemma2::blocks(fields)?;
    config.attention.query_key_norm = Some(config.norm);

    let window = standard::sliding_window(fields, Some(4096))?;
    let pattern = fields.optional_size(PATTERN, limits::LAYERS)?.unwrap_or(6);
    standard::sliding_layers(fields, &mut config, window, |layer| !(layer + 1).is_multiple_of(pattern))?;

    let nested =
        fields.object(&["rope_parameters"])?.filter(|all| all.has(&["full_attention", "sliding_attention"]));
    let (global, local) = match nested {
        Some(all) => (all.object(&["full_attention"])?, all.object(&["sliding_attention"])?),
        None => (fields.object(&["rope_scaling", "rope_parameters"])?, None),
    };
    let (head_dim, length) = (config.attention.head_dim, config.max_position_embeddings);
    config.positions = Positions::Rotary(vec![
        rope_of(fields, global.as_ref(), GLOBAL, head_dim, length)?,
        rope_of(fields, local.as_ref(), LOCAL, head_dim, length)?,
    ]);
    for layer in &mut config.layers {
        layer.rotary = usize::from(layer.sliding_window.is_some());
    }
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let mut raw = standard::from_scratch("gemma3_text", "Gemma3ForCausalLM", gemma::scratch_keys());
    let own = json!({
        "query_pre_attn_scalar": 256, "rope_local_base_freq": 10000.0, "rope_theta": 1000000.0,
        "sliding_window": 4096, "sliding_window_pattern": 6,
    });
    raw.extend(own.as_object().cloned().unwrap_or_default());
    raw
}
