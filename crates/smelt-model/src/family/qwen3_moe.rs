//! Qwen 3-MoE (Yang et al. 2025, arXiv:2505.09388): Qwen 3 with sparse experts.

use serde_json::{Map, Value, json};

use super::{Family, experts, qwen2, qwen2_moe, qwen3, standard};
use crate::config::{DecoderConfig, Fields};
use crate::error::ModelError;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "qwen3_moe",
    architectures: &["Qwen3MoeForCausalLM", "Qwen3MoeModel"],
    decoder,
    names: qwen2_moe::NAMES,
    init: standard::init,
    section_keys: &[
        standard::SECTION_KEYS,
        standard::RMS_NORM_KEYS,
        standard::WINDOW_KEYS,
        experts::SECTION_KEYS,
        experts::QWEN_KEYS,
        qwen3::OWN_KEYS,
    ],
    from_scratch,
};

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = qwen3::blocks(fields)?;
    let window = qwen2::enabled_window(fields)?;
    standard::sliding_layers(fields, &mut config, window, |_| true)?;
    experts::add(fields, &mut config, qwen2_moe::EXPERT_KEYS)?;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let mut raw = standard::from_scratch("qwen3_moe", "Qwen3MoeForCausalLM", qwen2::scratch_keys());
    let own = json!({
        "attention_bias": false, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true,
        "num_experts": 8, "num_experts_per_tok": 2, "output_router_logits": false, "router_aux_loss_coef": 0.001,
    });
    raw.extend(own.as_object().cloned().unwrap_or_default());
    raw
}
