//! Llama 1, 2 and 3 (Touvron et al. 2023, arXiv:2302.13971), and what shares the architecture: Code Llama,
//! Vicuna, and many others.

use serde_json::{Map, Value, json};

use super::{Family, standard};
use crate::config::{DecoderConfig, Fields, SectionKey};
use crate::error::ModelError;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "llama",
    architectures: &["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::RMS_NORM_KEYS, OWN_KEYS],
    from_scratch,
};

/// The names of most families: those of the fields, under `model.`.
pub const NAMES: NameMap = NameMap {
    body_prefix: "model.",
    renames: &[],
    transposed: &[],
    // A buffer of old files.
    ignored: &["rotary_emb.inv_freq"],
    mlx: &[],
};

const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["attention_bias"], writes: &["attention_bias"] },
    SectionKey { names: &["mlp_bias"], writes: &["mlp_bias"] },
];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = standard::LLAMA.decoder(fields)?;
    config.attention.qkv_bias = fields.flag("attention_bias", false)?;
    config.attention.output_bias = config.attention.qkv_bias;
    config.mlp.bias = fields.flag("mlp_bias", false)?;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "attention_bias": false, "attention_dropout": 0.0, "hidden_act": "silu", "mlp_bias": false,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    });
    standard::from_scratch("llama", "LlamaForCausalLM", own)
}
