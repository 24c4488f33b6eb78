//! Gemma 2 (Riviere et al. 2024, arXiv:2408.00118): Gemma with norms before and after each part of a block,
//! soft-capped scores and logits, and a window in every second layer.

use serde_json::{Map, Value, json};

use super::{Family, gemma, standard};
use crate::config::{DecoderConfig, Fields, Residual, SectionKey};
use crate::error::ModelError;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "gemma2",
    architectures: &["Gemma2ForCausalLM", "Gemma2Model"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::RMS_NORM_KEYS, standard::WINDOW_KEYS, OWN_KEYS],
    from_scratch,
};

/// The names of Gemma's four norms.
pub(super) const NAMES: NameMap = NameMap {
    body_prefix: "model.",
    renames: &[
        ("attention_output_layernorm", "post_attention_layernorm"),
        ("post_attention_layernorm", "pre_feedforward_layernorm"),
        ("mlp_output_layernorm", "post_feedforward_layernorm"),
    ],
    transposed: &[],
    ignored: &["rotary_emb.inv_freq"],
    mlx: &[],
};

pub(super) const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["query_pre_attn_scalar"], writes: &["query_pre_attn_scalar"] },
    SectionKey { names: &["attn_logit_softcapping"], writes: &["attn_logit_softcapping"] },
    SectionKey { names: &["final_logit_softcapping"], writes: &["final_logit_softcapping"] },
];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = blocks(fields)?;
    let window = standard::sliding_window(fields, Some(4096))?;
    standard::sliding_layers(fields, &mut config, window, |layer| layer.is_multiple_of(2))?;
    Ok(config)
}

/// Gemma 2's blocks without windows.
pub(super) fn blocks(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = gemma::decoder(fields)?;
    config.residual = Residual::Sandwich;
    let scalar = fields.positive(&["query_pre_attn_scalar"], 256.0)?;
    config.attention.scale = scalar.sqrt().recip();
    config.attention.softcap = fields.optional_positive(&["attn_logit_softcapping"])?;
    config.head.softcap = fields.optional_positive(&["final_logit_softcapping"])?;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let mut raw = standard::from_scratch("gemma2", "Gemma2ForCausalLM", gemma::scratch_keys());
    let own = json!({
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
    });
    raw.extend(own.as_object().cloned().unwrap_or_default());
    raw
}
