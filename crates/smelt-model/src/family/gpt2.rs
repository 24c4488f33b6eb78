//! GPT-2 (Radford et al. 2019): learned positions, pre-LayerNorm, one fused QKV projection, tanh GELU.
//!
//! Checkpoints keep linear weights as `Conv1D`, `[in, out]`; the name map lists them, and they are turned
//! once at load and back at save. Hub files name tensors with or without `transformer.` in front, and some
//! hold the causal mask as a buffer. Dropout on attention probabilities is read but not applied.

use serde_json::{Map, Value, json};
use smelt_backend::kernels::Activation;

use super::Family;
use crate::config::{
    AttentionConfig, DecoderConfig, DropoutConfig, Fields, MlpConfig, NormConfig, NormKind, Positions,
    SectionKey,
};
use crate::error::ModelError;
use crate::init::Distribution;
use crate::limits;
use crate::parameters::{ParameterInfo, Role};
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "gpt2",
    architectures: &["GPT2LMHeadModel", "GPT2Model"],
    decoder,
    names: NAMES,
    init,
    section_keys: SECTION_KEYS,
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
};

const VOCAB_SIZE: &[&str] = &["vocab_size"];
const POSITIONS: &[&str] = &["n_positions", "max_position_embeddings", "n_ctx"];
const HIDDEN: &[&str] = &["n_embd", "hidden_size"];
const LAYERS: &[&str] = &["n_layer", "num_hidden_layers"];
const HEADS: &[&str] = &["n_head", "num_attention_heads"];
const INNER: &[&str] = &["n_inner", "intermediate_size"];
const ACTIVATION: &[&str] = &["activation_function", "hidden_act"];

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let hidden_size = fields.size(HIDDEN, limits::HIDDEN_SIZE)?;
    let intermediate_size = fields.optional_size(INNER, limits::INTERMEDIATE_SIZE)?;
    if fields.flag("add_cross_attention", false)? {
        return Err(fields.bad(&["add_cross_attention"], "`false`: cross-attention is not supported"));
    }
    // In f32, computing the scores upcast and reordered is what happens anyway.
    fields.flag("reorder_and_upcast_attn", false)?;
    Ok(DecoderConfig {
        vocab_size: fields.size(VOCAB_SIZE, limits::VOCAB_SIZE)?,
        hidden_size,
        num_hidden_layers: fields.size(LAYERS, limits::LAYERS)?,
        max_position_embeddings: fields.size(POSITIONS, limits::POSITIONS)?,
        positions: Positions::Learned,
        norm: NormConfig {
            kind: NormKind::LayerNorm { bias: true },
            epsilon: fields.positive(&["layer_norm_epsilon"], 1e-5)?,
        },
        attention: attention(fields, hidden_size)?,
        mlp: MlpConfig {
            intermediate_size: intermediate_size.unwrap_or(4 * hidden_size),
            activation: fields.choice(ACTIVATION, ACTIVATIONS, Activation::GeluTanh)?,
            bias: true,
        },
        tie_word_embeddings: fields.flag("tie_word_embeddings", true)?,
        dropout: DropoutConfig {
            embedding: fields.probability(&["embd_pdrop"], 0.1)?,
            residual: fields.probability(&["resid_pdrop"], 0.1)?,
            attention: fields.probability(&["attn_pdrop"], 0.1)?,
        },
        initializer_range: fields.positive(&["initializer_range"], 0.02)?,
    })
}

fn attention(fields: &Fields<'_>, hidden_size: usize) -> Result<AttentionConfig, ModelError> {
    let heads = fields.size(HEADS, limits::HEADS)?;
    if !hidden_size.is_multiple_of(heads) {
        return Err(fields.bad(HEADS, format!("a divisor of `{}` ({hidden_size})", HIDDEN[0])));
    }
    let head_dim = hidden_size / heads;
    let scaled = fields.flag("scale_attn_weights", true)?;
    Ok(AttentionConfig {
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim,
        scale: if scaled { (head_dim as f64).sqrt().recip() } else { 1.0 },
        scale_by_inverse_layer: fields.flag("scale_attn_by_inverse_layer_idx", false)?,
        qkv_bias: true,
        output_bias: true,
    })
}

/// Normal weights; projections onto the residual stream are scaled down by the number that add up there.
fn init(parameter: &ParameterInfo, config: &DecoderConfig) -> Distribution {
    let onto_residual =
        parameter.path.ends_with("o_proj.weight") || parameter.path.ends_with("down_proj.weight");
    match parameter.role {
        Role::Bias => Distribution::Constant(0.0),
        Role::Norm => Distribution::Constant(1.0),
        Role::Matrix if onto_residual => {
            let additions = 2.0 * config.num_hidden_layers as f64;
            Distribution::Normal { std: config.initializer_range / additions.sqrt() }
        }
        Role::Matrix | Role::Embedding => Distribution::Normal { std: config.initializer_range },
    }
}

const SECTION_KEYS: &[SectionKey] = &[
    SectionKey { names: VOCAB_SIZE, writes: &["vocab_size"] },
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
    SectionKey { names: &["scale_attn_weights"], writes: &["scale_attn_weights"] },
    SectionKey { names: &["scale_attn_by_inverse_layer_idx"], writes: &["scale_attn_by_inverse_layer_idx"] },
    SectionKey { names: &["bos_token_id"], writes: &["bos_token_id"] },
    SectionKey { names: &["eos_token_id"], writes: &["eos_token_id"] },
];

/// Explicit where transformers' own default would be another: its `eos_token_id` is 50256, its dropout 0.1.
fn from_scratch() -> Map<String, Value> {
    let config = json!({
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": null,
        "embd_pdrop": 0.0,
        "eos_token_id": null,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_inner": null,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": true,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
    });
    config.as_object().cloned().unwrap_or_default()
}
