//! Qwen 1.5-MoE and 2-MoE: Qwen 2 with sparse experts and one that sees every token.

use serde_json::{Map, Value, json};

use super::experts::{self, ExpertKeys};
use super::{Family, qwen2, standard};
use crate::config::{DecoderConfig, Fields, SectionKey};
use crate::error::ModelError;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "qwen2_moe",
    architectures: &["Qwen2MoeForCausalLM", "Qwen2MoeModel"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[
        standard::SECTION_KEYS,
        standard::RMS_NORM_KEYS,
        standard::WINDOW_KEYS,
        experts::SECTION_KEYS,
        experts::QWEN_KEYS,
        OWN_KEYS,
    ],
    from_scratch,
};

/// The names of Qwen's experts.
pub(super) const NAMES: NameMap = NameMap {
    body_prefix: "model.",
    renames: &[("moe.router", "mlp.gate"), ("moe", "mlp")],
    transposed: &[],
    ignored: &["rotary_emb.inv_freq"],
    mlx: &[],
};

const OWN_KEYS: &[SectionKey] = &[SectionKey { names: &["qkv_bias"], writes: &["qkv_bias"] }];

pub(super) const EXPERT_KEYS: ExpertKeys =
    ExpertKeys { intermediate_size: &["moe_intermediate_size"], norm_topk_prob: false };

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = standard::LLAMA.decoder(fields)?;
    config.attention.qkv_bias = fields.flag("qkv_bias", true)?;
    let window = qwen2::enabled_window(fields)?;
    let last = qwen2::first_window_layer(fields)?;
    // Every second layer, and those before `max_window_layers`: the opposite of Qwen 2.
    standard::sliding_layers(fields, &mut config, window, |layer| layer.is_multiple_of(2) && layer < last)?;
    experts::add(fields, &mut config, EXPERT_KEYS)?;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let mut raw = standard::from_scratch("qwen2_moe", "Qwen2MoeForCausalLM", qwen2::scratch_keys());
    let own = json!({
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": false, "num_experts": 8,
        "num_experts_per_tok": 2, "output_router_logits": false, "qkv_bias": true, "router_aux_loss_coef": 0.001,
    });
    raw.extend(own.as_object().cloned().unwrap_or_default());
    raw
}
