//! Gemma 1 (Mesnard et al. 2024, arXiv:2403.08295): Llama with scaled embeddings, norms around `1 + weight`,
//! GeGLU, wide heads and a tied head.

use serde_json::{Map, Value, json};
use smelt_backend::kernels::Activation;

use super::{Family, llama, standard};
use crate::config::{DecoderConfig, Fields, NormKind};
use crate::error::ModelError;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "gemma",
    architectures: &["GemmaForCausalLM", "GemmaModel"],
    decoder,
    names: llama::NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::RMS_NORM_KEYS],
    from_scratch,
};

const KEYS: standard::Standard = standard::Standard {
    activation: &["hidden_activation", "hidden_act"],
    default_activation: Activation::GeluTanh,
    tie_word_embeddings: true,
    ..standard::LLAMA
};

pub(super) fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = KEYS.decoder(fields)?;
    if config.mlp.activation == Activation::Gelu {
        // The first files say `gelu` and mean this.
        config.mlp.activation = Activation::GeluTanh;
    }
    if fields.flag("use_bidirectional_attention", false)? {
        return Err(fields.bad(&["use_bidirectional_attention"], "`false`: this is a decoder"));
    }
    config.norm.kind = NormKind::RmsNorm { unit_offset: true };
    config.embedding_scale = Some((config.hidden_size as f64).sqrt());
    config.attention.qkv_bias = fields.flag("attention_bias", false)?;
    config.attention.output_bias = config.attention.qkv_bias;
    Ok(config)
}

/// What all Gemmas start from.
pub(super) fn scratch_keys() -> Value {
    json!({
        "attention_bias": false, "attention_dropout": 0.0, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    })
}

fn from_scratch() -> Map<String, Value> {
    standard::from_scratch("gemma", "GemmaForCausalLM", scratch_keys())
}
