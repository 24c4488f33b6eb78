//! GPT-2 (Radford et al. 2019): learned positions, pre-LayerNorm, one fused QKV projection, tanh GELU.
//!
//! Checkpoints keep linear weights as `Conv1D`, `[in, out]`; the name map lists them, and they are turned
//! once at load and back at save. Hub files name tensors with or without `transformer.` in front, and some
//! hold the causal mask as a buffer. Dropout on attention probabilities is read but not applied.

use serde_json::{Map, Value, json};
use smelt_backend::kernels::Activation;

use super::{Family, standard};
use crate::config::{DecoderConfig, DropoutConfig, Fields, Gate, NormKind, Projections, SectionKey};
use crate::error::ModelError;
use crate::init::Distribution;
use crate::parameters::ParameterInfo;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "gpt2",
    architectures: &["GPT2LMHeadModel", "GPT2Model"],
    decoder,
    names: NAMES,
    init,
    section_keys: &[SECTION_KEYS, OWN_KEYS],
    from_scratch,
};

const NAMES: NameMap = NameMap {
    body_prefix: "transformer.",
    renames: &[
        ("embed_tokens", "wte"),
        ("embed_positions", "wpe"),
        ("layers", "h"),
        ("input_layernorm", "ln_1"),
        ("post_attention_layernorm", "ln_2"),
        ("self_attn.qkv_proj", "attn.c_attn"),
        ("self_attn.o_proj", "attn.c_proj"),
        ("mlp.up_proj", "mlp.c_fc"),
        ("mlp.down_proj", "mlp.c_proj"),
        ("norm", "ln_f"),
    ],
    transposed: &["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"],
    ignored: &[".attn.bias", ".attn.masked_bias"],
    mlx: &[("transformer.", "model.")],
};

/// The spelling of OpenAI's and EleutherAI's first models.
pub(super) const KEYS: standard::Standard = standard::Standard {
    hidden_size: &["n_embd", "hidden_size"],
    num_hidden_layers: &["n_layer", "num_hidden_layers"],
    num_attention_heads: &["n_head", "num_attention_heads"],
    max_position_embeddings: &["n_positions", "max_position_embeddings", "n_ctx"],
    intermediate_size: &["n_inner", "intermediate_size"],
    activation: &["activation_function", "hidden_act"],
    default_activation: Activation::GeluTanh,
    epsilon: &["layer_norm_epsilon"],
    default_epsilon: 1e-5,
    rope: None,
    tie_word_embeddings: true,
};

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    if fields.flag("add_cross_attention", false)? {
        return Err(fields.bad(&["add_cross_attention"], "`false`: cross-attention is not supported"));
    }
    // In f32, computing the scores upcast and reordered is what happens anyway.
    fields.flag("reorder_and_upcast_attn", false)?;
    let mut config = KEYS.decoder(fields)?;
    config.norm.kind = NormKind::LayerNorm { bias: true };
    config.attention.projections = Projections::Joined;
    config.attention.qkv_bias = true;
    config.attention.output_bias = true;
    config.attention.scale_by_inverse_layer = fields.flag("scale_attn_by_inverse_layer_idx", false)?;
    if !fields.flag("scale_attn_weights", true)? {
        config.attention.scale = 1.0;
    }
    config.mlp.gate = Gate::None;
    config.mlp.bias = true;
    config.dropout = DropoutConfig {
        embedding: fields.probability(&["embd_pdrop"], 0.1)?,
        residual: fields.probability(&["resid_pdrop"], 0.1)?,
        attention: fields.probability(&["attn_pdrop"], 0.1)?,
    };
    Ok(config)
}

/// Normal weights; projections onto the residual stream are scaled down by the number that add up there.
fn init(parameter: &ParameterInfo, config: &DecoderConfig) -> Distribution {
    let onto_residual =
        parameter.path.ends_with("o_proj.weight") || parameter.path.ends_with("down_proj.weight");
    if !onto_residual {
        return standard::init(parameter, config);
    }
    let additions = 2.0 * config.num_hidden_layers as f64;
    Distribution::Normal { std: config.initializer_range / additions.sqrt() }
}

/// Quantities of every family with these [`KEYS`].
pub(super) const SECTION_KEYS: &[SectionKey] = &[
    SectionKey { names: &["vocab_size"], writes: &["vocab_size"] },
    SectionKey {
        names: &["n_positions", "n_ctx", "max_position_embeddings", "max_seq_len"],
        writes: &["n_positions", "n_ctx"],
    },
    SectionKey { names: &["n_embd", "hidden_size", "d_model"], writes: &["n_embd"] },
    SectionKey { names: &["n_layer", "num_hidden_layers", "n_layers"], writes: &["n_layer"] },
    SectionKey { names: &["n_head", "num_attention_heads", "n_heads"], writes: &["n_head"] },
    SectionKey { names: &["n_inner", "intermediate_size", "d_ff"], writes: &["n_inner"] },
    SectionKey { names: &["activation_function", "hidden_act"], writes: &["activation_function"] },
    SectionKey { names: &["layer_norm_epsilon"], writes: &["layer_norm_epsilon"] },
    SectionKey { names: &["initializer_range"], writes: &["initializer_range"] },
    SectionKey { names: &["tie_word_embeddings"], writes: &["tie_word_embeddings"] },
    SectionKey { names: &["dropout"], writes: &["embd_pdrop", "resid_pdrop"] },
    SectionKey { names: &["embd_pdrop"], writes: &["embd_pdrop"] },
    SectionKey { names: &["resid_pdrop"], writes: &["resid_pdrop"] },
    SectionKey { names: &["attn_pdrop"], writes: &["attn_pdrop"] },
    SectionKey { names: &["bos_token_id"], writes: &["bos_token_id"] },
    SectionKey { names: &["eos_token_id"], writes: &["eos_token_id"] },
];

const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["scale_attn_weights"], writes: &["scale_attn_weights"] },
    SectionKey { names: &["scale_attn_by_inverse_layer_idx"], writes: &["scale_attn_by_inverse_layer_idx"] },
];

/// Explicit where transformers' own default would be another: its `eos_token_id` is 50256, its dropout 0.1.
fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "layer_norm_epsilon": 1e-5,
        "n_inner": null,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": true,
    });
    standard::from_scratch("gpt2", "GPT2LMHeadModel", own)
}
