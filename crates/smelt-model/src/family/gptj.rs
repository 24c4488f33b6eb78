//! GPT-J (Wang and Komatsuzaki 2021): attention and feed-forward side by side behind one LayerNorm, rotary
//! positions on interleaved pairs, a head with a bias.

use serde_json::{Map, Value, json};
use smelt_backend::kernels::RotaryStyle;

use super::{Family, gpt2, standard};
use crate::config::{
    DecoderConfig, Fields, Gate, HeadConfig, NormKind, Positions, ROPE_KEYS, Residual, SectionKey,
};
use crate::error::ModelError;
use crate::limits;
use crate::weights::NameMap;

/// The family.
pub const FAMILY: Family = Family {
    model_type: "gptj",
    architectures: &["GPTJForCausalLM", "GPTJModel"],
    decoder,
    names: NAMES,
    init: standard::init,
    section_keys: &[gpt2::SECTION_KEYS, OWN_KEYS],
    from_scratch,
};

const NAMES: NameMap = NameMap {
    body_prefix: "transformer.",
    renames: &[
        ("embed_tokens", "wte"),
        ("layers", "h"),
        ("input_layernorm", "ln_1"),
        ("self_attn.o_proj", "attn.out_proj"),
        ("self_attn", "attn"),
        ("mlp.up_proj", "mlp.fc_in"),
        ("mlp.down_proj", "mlp.fc_out"),
        ("norm", "ln_f"),
    ],
    transposed: &[],
    ignored: &[".attn.bias", ".attn.masked_bias", ".attn.embed_positions"],
    mlx: &[("transformer.", "model.")],
};

const KEYS: standard::Standard =
    standard::Standard { rope: Some(ROPE_KEYS), tie_word_embeddings: false, ..gpt2::KEYS };

const ROTARY_DIM: &[&str] = &["rotary_dim"];

const OWN_KEYS: &[SectionKey] = &[SectionKey { names: ROTARY_DIM, writes: ROTARY_DIM }];

fn decoder(fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
    let mut config = KEYS.decoder(fields)?;
    let head_dim = config.attention.head_dim;
    let rotary_dim = fields.optional_size(ROTARY_DIM, limits::HIDDEN_SIZE)?.unwrap_or(head_dim);
    if rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
        return Err(fields.bad(ROTARY_DIM, format!("an even number up to the width of a head ({head_dim})")));
    }
    if let Positions::Rotary(rotary) = &mut config.positions {
        rotary[0].rotary_dim = rotary_dim;
        rotary[0].style = RotaryStyle::Interleaved;
    }
    config.norm.kind = NormKind::LayerNorm { bias: true };
    config.residual = Residual::Parallel { shared_norm: true };
    config.mlp.gate = Gate::None;
    config.mlp.bias = true;
    config.head = HeadConfig { bias: true, softcap: None };
    Ok(config)
}

fn from_scratch() -> Map<String, Value> {
    let own = json!({
        "activation_function": "gelu_new", "attn_pdrop": 0.0, "embd_pdrop": 0.0, "layer_norm_epsilon": 1e-5,
        "n_inner": null, "resid_pdrop": 0.0, "rotary": true, "rotary_dim": null, "tie_word_embeddings": false,
    });
    standard::from_scratch("gptj", "GPTJForCausalLM", own)
}
