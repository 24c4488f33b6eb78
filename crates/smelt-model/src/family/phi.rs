//! Phi 1, 1.5 and 2 (Li et al. 2023, arXiv:2309.05463): LayerNorm, attention and feed-forward side by side
//! behind one norm, rotary positions on a part of each head, biases everywhere.

use serde_json::{Map, Value, json};
use smelt_backend::kernels::Activation;

use super::{Family, standard};
use crate::config::{
    DecoderConfig, Fields, Gate, HeadConfig, NormKind, ROPE_KEYS, Residual, RopeKeys, SectionKey,
};
use crate::error::ModelError;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "phi",
    architectures: &["PhiForCausalLM", "PhiModel"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, standard::LAYER_NORM_KEYS, OWN_KEYS],
    from_scratch,
};

const NAMES: NameMap = NameMap {
    body_prefix: "model.",
    renames: &[
        ("self_attn.o_proj", "self_attn.dense"),
        ("self_attn.q_norm", "self_attn.q_layernorm"),
        ("self_attn.k_norm", "self_attn.k_layernorm"),
        ("mlp.up_proj", "mlp.fc1"),
        ("mlp.down_proj", "mlp.fc2"),
        ("norm", "final_layernorm"),
    ],
    transposed: &[],
    ignored: &["rotary_emb.inv_freq"],
    mlx: &[],
};

const KEYS: standard::Standard = standard::Standard {
    default_activation: Activation::GeluTanh,
    epsilon: &["layer_norm_eps"],
    default_epsilon: 1e-5,
    rope: Some(RopeKeys { default_partial: 0.5, ..ROPE_KEYS }),
    ..standard::LLAMA
};

const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["partial_rotary_factor"], writes: &["partial_rotary_factor"] },
    SectionKey { names: &["qk_layernorm"], writes: &["qk_layernorm"] },
];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = KEYS.decoder(fields)?;
    config.norm.kind = NormKind::LayerNorm { bias: true };
    config.residual = Residual::Parallel { shared_norm: true };
    config.attention.qkv_bias = true;
    config.attention.output_bias = true;
    config.attention.query_key_norm = fields.flag("qk_layernorm", false)?.then_some(config.norm);
    config.mlp.gate = Gate::None;
    config.mlp.bias = true;
    config.head = HeadConfig { bias: true, softcap: None };
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "attention_dropout": 0.0, "embd_pdrop": 0.0, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5, "qk_layernorm": false, "resid_pdrop": 0.0, "rope_theta": 10000.0,
        "tie_word_embeddings": false,
    });
    standard::from_scratch("phi", "PhiForCausalLM", own)
}
