//! Mixtral (Jiang et al. 2024, arXiv:2401.04088): Mistral with sparse experts in every block.

use serde_json::{Map, Value, json};

use super::experts::{self, ExpertKeys};
use super::{Family, mistral, standard};
use crate::config::{DecoderConfig, Fields, ROPE_KEYS, RopeKeys, SectionKey};
use crate::error::ModelError;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "mixtral",
    architectures: &["MixtralForCausalLM", "MixtralModel"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[
        standard::SECTION_KEYS,
        standard::RMS_NORM_KEYS,
        standard::WINDOW_KEYS,
        experts::SECTION_KEYS,
        OWN_KEYS,
    ],
    from_scratch,
};

const NAMES: NameMap = NameMap {
    body_prefix: "model.",
    renames: &[
        ("moe.router", "block_sparse_moe.gate"),
        ("moe", "block_sparse_moe"),
        ("gate_proj", "w1"),
        ("down_proj", "w2"),
        ("up_proj", "w3"),
    ],
    transposed: &[],
    ignored: &["rotary_emb.inv_freq"],
    mlx: &[],
};

const KEYS: standard::Standard = standard::Standard {
    default_epsilon: 1e-5,
    rope: Some(RopeKeys { default_theta: 1e6, ..ROPE_KEYS }),
    ..standard::LLAMA
};

const OWN_KEYS: &[SectionKey] =
    &[SectionKey { names: &["num_local_experts", "num_experts"], writes: &["num_local_experts"] }];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = mistral::windowed(&KEYS, fields, None)?;
    let keys = ExpertKeys { intermediate_size: &["intermediate_size"], norm_topk_prob: true };
    experts::add(fields, &mut config, keys)?;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "attention_dropout": 0.0, "hidden_act": "silu", "num_experts_per_tok": 2, "num_local_experts": 8,
        "output_router_logits": false, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.02, "sliding_window": null,
    });
    standard::from_scratch("mixtral", "MixtralForCausalLM", own)
}
