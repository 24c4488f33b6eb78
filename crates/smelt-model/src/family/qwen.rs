//! Qwen 1 (Bai et al. 2023, arXiv:2309.16609), as its own repository lays it out: `transformer.h`, joined
//! `c_attn`, a base that grows with the prompt, queries that grow with the logarithm of the position.

use serde_json::{Map, Value, json};

use super::{Family, standard};
use crate::config::{DecoderConfig, Fields, Positions, Projections, ROPE_KEYS, RopeKeys, SectionKey};
use crate::error::ModelError;
use crate::limits;
use crate::rotary::RopeScaling;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "qwen",
    architectures: &["QWenLMHeadModel"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, OWN_KEYS],
    from_scratch,
};

const NAMES: NameMap = NameMap {
    body_prefix: "transformer.",
    renames: &[
        ("embed_tokens", "wte"),
        ("layers", "h"),
        ("input_layernorm", "ln_1"),
        ("post_attention_layernorm", "ln_2"),
        ("self_attn.qkv_proj", "attn.c_attn"),
        ("self_attn.o_proj", "attn.c_proj"),
        ("mlp.gate_proj", "mlp.w2"),
        ("mlp.up_proj", "mlp.w1"),
        ("mlp.down_proj", "mlp.c_proj"),
        ("norm", "ln_f"),
    ],
    transposed: &[],
    ignored: &["rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"],
    mlx: &[],
};

const KEYS: standard::Standard = standard::Standard {
    epsilon: &["layer_norm_epsilon"],
    rope: Some(RopeKeys { theta: &["rotary_emb_base"], partial: &["rotary_pct"], ..ROPE_KEYS }),
    ..standard::LLAMA
};

const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["layer_norm_epsilon"], writes: &["layer_norm_epsilon"] },
    SectionKey { names: &["seq_length"], writes: &["seq_length"] },
    SectionKey { names: &["kv_channels"], writes: &["kv_channels"] },
    SectionKey { names: &["use_dynamic_ntk"], writes: &["use_dynamic_ntk"] },
    SectionKey { names: &["use_logn_attn"], writes: &["use_logn_attn"] },
];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = KEYS.decoder(fields)?;
    let bias = !fields.flag("no_bias", true)?;
    let original_length =
        fields.optional_size(&["seq_length"], limits::POSITIONS)?.unwrap_or(config.max_position_embeddings);
    if let Some(channels) = fields.optional_size(&["kv_channels"], limits::HIDDEN_SIZE)?
        && channels != config.attention.head_dim
    {
        return Err(
            fields.bad(&["kv_channels"], format!("the width of a head ({})", config.attention.head_dim))
        );
    }
    config.attention.projections = Projections::Joined;
    config.attention.qkv_bias = true;
    config.attention.output_bias = bias;
    config.mlp.bias = bias;
    // Both halves of the gated part are counted.
    if !config.mlp.intermediate_size.is_multiple_of(2) {
        return Err(fields.bad(&["intermediate_size"], "an even number"));
    }
    config.mlp.intermediate_size /= 2;
    if fields.flag("use_logn_attn", true)? {
        config.attention.log_scaling = Some(original_length);
    }
    if let (true, Positions::Rotary(rotary)) = (fields.flag("use_dynamic_ntk", true)?, &mut config.positions)
    {
        rotary[0].scaling = RopeScaling::PromptNtk { original_length };
    }
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "layer_norm_epsilon": 1e-6, "no_bias": true, "rotary_emb_base": 10000, "rotary_pct": 1.0,
        "tie_word_embeddings": false, "use_dynamic_ntk": false, "use_logn_attn": false,
    });
    standard::from_scratch("qwen", "QWenLMHeadModel", own)
}
