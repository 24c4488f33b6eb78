//! GPT-NeoX and Pythia (Black et al. 2022, arXiv:2204.06745): LayerNorm, attention and feed-forward side by
//! side or in turn, a joined projection that goes head by head, rotary positions on a part of each head.

use serde_json::{Map, Value, json};
use smelt_backend::kernels::Activation;

use super::{Family, standard};
use crate::config::{
    DecoderConfig, Fields, Gate, NormKind, Projections, ROPE_KEYS, Residual, RopeKeys, SectionKey,
};
use crate::error::ModelError;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "gpt_neox",
    architectures: &["GPTNeoXForCausalLM", "GPTNeoXModel"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[standard::SECTION_KEYS, OWN_KEYS],
    from_scratch,
};

const NAMES: NameMap = NameMap {
    body_prefix: "gpt_neox.",
    renames: &[
        ("embed_tokens", "embed_in"),
        ("self_attn.qkv_proj", "attention.query_key_value"),
        ("self_attn.o_proj", "attention.dense"),
        ("mlp.up_proj", "mlp.dense_h_to_4h"),
        ("mlp.down_proj", "mlp.dense_4h_to_h"),
        ("norm", "final_layer_norm"),
        ("lm_head", "embed_out"),
    ],
    transposed: &[],
    ignored: &["rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"],
    mlx: &[("gpt_neox.layers.", "model.h."), ("gpt_neox.", "model."), ("embed_out.", "model.embed_out.")],
};

const KEYS: standard::Standard = standard::Standard {
    default_activation: Activation::Gelu,
    epsilon: &["layer_norm_eps"],
    default_epsilon: 1e-5,
    rope: Some(RopeKeys {
        theta: &["rotary_emb_base", "rope_theta"],
        partial: &["rotary_pct", "partial_rotary_factor"],
        default_partial: 0.25,
        ..ROPE_KEYS
    }),
    ..standard::LLAMA
};

const OWN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["layer_norm_eps"], writes: &["layer_norm_eps"] },
    SectionKey { names: &["hidden_dropout", "dropout"], writes: &["hidden_dropout"] },
    SectionKey { names: &["rotary_pct"], writes: &["rotary_pct"] },
    SectionKey { names: &["rotary_emb_base"], writes: &["rotary_emb_base"] },
    SectionKey { names: &["use_parallel_residual"], writes: &["use_parallel_residual"] },
];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = KEYS.decoder(fields)?;
    if config.attention.num_key_value_heads != config.attention.num_attention_heads {
        return Err(fields.bad(&["num_key_value_heads"], "as many as query heads: they share one projection"));
    }
    config.norm.kind = NormKind::LayerNorm { bias: true };
    if fields.flag("use_parallel_residual", true)? {
        config.residual = Residual::Parallel { shared_norm: false };
    }
    config.attention.projections = Projections::Interleaved;
    config.attention.qkv_bias = fields.flag("attention_bias", true)?;
    config.attention.output_bias = config.attention.qkv_bias;
    config.mlp.gate = Gate::None;
    config.mlp.bias = true;
    // Dropped like what a block adds.
    config.dropout.embedding = config.dropout.residual;
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "attention_bias": true, "attention_dropout": 0.0, "hidden_act": "gelu", "hidden_dropout": 0.0,
        "layer_norm_eps": 1e-5, "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false,
        "use_parallel_residual": true,
    });
    standard::from_scratch("gpt_neox", "GPTNeoXForCausalLM", own)
}
