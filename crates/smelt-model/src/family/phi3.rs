//! Phi 3, 3.5 and 4-mini (Abdin et al. 2024, arXiv:2404.14219): Llama with joined projections, a window, and
//! LongRoPE.

use serde_json::{Map, Value, json};

use super::{Family, llama, mistral, standard};
use crate::config::{DecoderConfig, Fields, Gate, Projections, SectionKey};
use crate::error::ModelError;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "phi3",
    architectures: &["Phi3ForCausalLM", "Phi3Model"],
    decoder,
    names: llama::NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::RMS_NORM_KEYS, standard::WINDOW_KEYS, OWN_KEYS],
    from_scratch,
};

const KEYS: standard::Standard = standard::Standard { default_epsilon: 1e-5, ..standard::LLAMA };

const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["partial_rotary_factor"], writes: &["partial_rotary_factor"] },
    SectionKey {
        names: &["original_max_position_embeddings"],
        writes: &["original_max_position_embeddings"],
    },
    SectionKey { names: &["embd_pdrop"], writes: &["embd_pdrop"] },
    SectionKey { names: &["resid_pdrop"], writes: &["resid_pdrop"] },
];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = mistral::windowed(&KEYS, fields, None)?;
    config.attention.projections = Projections::Joined;
    config.mlp.gate = Gate::Joined;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "attention_dropout": 0.0, "embd_pdrop": 0.0, "hidden_act": "silu", "pad_token_id": null,
        "resid_pdrop": 0.0, "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 10000.0,
        "sliding_window": null,
    });
    standard::from_scratch("phi3", "Phi3ForCausalLM", own)
}
