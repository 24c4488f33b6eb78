//! The keys that nearly every `config.json` spells as Llama's does, read once for all families.
//!
//! A family starts from what this makes of them and changes what is peculiar to it.

use serde_json::{Map, Value, json};
use smelt_backend::kernels::Activation;

use crate::config::{
    AttentionConfig, DecoderConfig, DropoutConfig, Fields, Gate, HeadConfig, LayerConfig, MlpConfig,
    NormConfig, NormKind, Positions, Projections, ROPE_KEYS, Residual, RopeKeys, SectionKey, rope,
};
use crate::error::ModelError;
use crate::init::Distribution;
use crate::limits;
use crate::parameters::{ParameterInfo, Role};

/// What a family's configuration means by leaving things out, and where its spelling differs.
#[derive(Debug, Clone, Copy)]
pub struct Standard {
    /// Width of the residual stream.
    pub hidden_size: &'static [&'static str],
    /// Number of blocks.
    pub num_hidden_layers: &'static [&'static str],
    /// Query heads.
    pub num_attention_heads: &'static [&'static str],
    /// Longest context.
    pub max_position_embeddings: &'static [&'static str],
    /// Width inside the feed-forward part; 4 times the residual stream where absent.
    pub intermediate_size: &'static [&'static str],
    /// Of the feed-forward part.
    pub activation: &'static [&'static str],
    /// The activation where absent.
    pub default_activation: Activation,
    /// Of the norms.
    pub epsilon: &'static [&'static str],
    /// The epsilon where absent.
    pub default_epsilon: f64,
    /// Spellings and defaults of the rotation; learned positions without.
    pub rope: Option<RopeKeys>,
    /// Whether the head is tied where nothing is said.
    pub tie_word_embeddings: bool,
}

/// Llama's own.
pub const LLAMA: Standard = Standard {
    hidden_size: &["hidden_size"],
    num_hidden_layers: &["num_hidden_layers"],
    num_attention_heads: &["num_attention_heads"],
    max_position_embeddings: &["max_position_embeddings"],
    intermediate_size: &["intermediate_size"],
    activation: &["hidden_act", "hidden_activation"],
    default_activation: Activation::Silu,
    epsilon: &["rms_norm_eps"],
    default_epsilon: 1e-6,
    rope: Some(ROPE_KEYS),
    tie_word_embeddings: false,
};

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("relu", Activation::Relu),
];

impl Standard {
    /// A decoder with Llama's blocks: RMSNorm, rotary positions, gated feed-forward, no biases.
    ///
    /// # Errors
    /// [`ModelError::MissingKey`] and [`ModelError::BadValue`].
    pub fn decoder(&self, fields: &Fields<'_>) -> Result<DecoderConfig, ModelError> {
        let hidden_size = fields.size(self.hidden_size, limits::HIDDEN_SIZE)?;
        let vocab_size = fields.size(&["vocab_size"], limits::VOCAB_SIZE)?;
        let num_hidden_layers = fields.size(self.num_hidden_layers, limits::LAYERS)?;
        let max_position_embeddings = fields.size(self.max_position_embeddings, limits::POSITIONS)?;
        let attention = self.attention(fields, hidden_size)?;
        let positions = match self.rope {
            Some(keys) => {
                let rotary = rope(fields, keys, attention.head_dim, max_position_embeddings)?;
                Positions::Rotary(vec![rotary])
            }
            None => Positions::Learned,
        };
        let intermediate_size = fields.optional_size(self.intermediate_size, limits::INTERMEDIATE_SIZE)?;
        Ok(DecoderConfig {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            max_position_embeddings,
            embedding_scale: None,
            positions,
            norm: NormConfig {
                kind: NormKind::RmsNorm { unit_offset: false },
                epsilon: fields.positive(self.epsilon, self.default_epsilon)?,
            },
            residual: Residual::Sequential,
            attention,
            mlp: MlpConfig {
                intermediate_size: intermediate_size.unwrap_or(4 * hidden_size),
                activation: fields.choice(self.activation, ACTIVATIONS, self.default_activation)?,
                gate: Gate::Separate,
                bias: false,
            },
            experts: None,
            layers: vec![LayerConfig::default(); num_hidden_layers],
            head: HeadConfig::default(),
            tie_word_embeddings: fields.flag("tie_word_embeddings", self.tie_word_embeddings)?,
            dropout: DropoutConfig {
                embedding: fields.probability(&["embd_pdrop"], 0.0)?,
                residual: fields.probability(&["resid_pdrop", "hidden_dropout"], 0.0)?,
                attention: fields.probability(&["attention_dropout", "attn_pdrop"], 0.0)?,
            },
            initializer_range: fields.positive(&["initializer_range"], 0.02)?,
        })
    }

    fn attention(&self, fields: &Fields<'_>, hidden_size: usize) -> Result<AttentionConfig, ModelError> {
        let heads = fields.size(self.num_attention_heads, limits::HEADS)?;
        let key_value_heads = fields.optional_size(&["num_key_value_heads"], limits::HEADS)?.unwrap_or(heads);
        if !heads.is_multiple_of(key_value_heads) {
            let expected = format!("a divisor of `{}` ({heads})", self.num_attention_heads[0]);
            return Err(fields.bad(&["num_key_value_heads"], expected));
        }
        let head_dim = match fields.optional_size(&["head_dim"], limits::HIDDEN_SIZE)? {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => {
                let expected = format!("a divisor of `{}` ({hidden_size})", self.hidden_size[0]);
                return Err(fields.bad(self.num_attention_heads, expected));
            }
        };
        Ok(AttentionConfig {
            num_attention_heads: heads,
            num_key_value_heads: key_value_heads,
            head_dim,
            scale: (head_dim as f64).sqrt().recip(),
            scale_by_inverse_layer: false,
            projections: Projections::Separate,
            qkv_bias: false,
            output_bias: false,
            query_key_norm: None,
            softcap: None,
            log_scaling: None,
        })
    }
}

/// Sets the windows of `config` from `layer_types`, or else gives one to the layers that `default_sliding` names.
///
/// # Errors
/// [`ModelError::BadValue`] for a list of another length or with unknown types.
pub fn sliding_layers(
    fields: &Fields<'_>,
    config: &mut DecoderConfig,
    sliding_window: Option<usize>,
    default_sliding: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    const TYPES: &[(&str, bool)] = &[("full_attention", false), ("sliding_attention", true)];
    let listed = fields.choices(&["layer_types"], TYPES, config.num_hidden_layers)?;
    for (index, layer) in config.layers.iter_mut().enumerate() {
        let sliding = listed.as_ref().map_or_else(|| default_sliding(index), |types| types[index]);
        layer.sliding_window = sliding_window.filter(|_| sliding);
    }
    Ok(())
}

/// `sliding_window`, where 0 stands for none as in some files; `absent` if the key is not there at all.
///
/// # Errors
/// [`ModelError::BadValue`] if it is no whole number.
pub fn sliding_window(fields: &Fields<'_>, absent: Option<usize>) -> Result<Option<usize>, ModelError> {
    const KEY: &str = "sliding_window";
    if !fields.mentions(KEY) {
        return Ok(absent);
    }
    Ok(fields.optional_count(&[KEY], limits::POSITIONS)?.filter(|window| *window > 0))
}

/// Normal weights, no biases, norms that change nothing.
pub fn init(parameter: &ParameterInfo, config: &DecoderConfig) -> Distribution {
    match (parameter.role, config.norm.kind) {
        (Role::Bias | Role::Adapter, _) | (Role::Norm, NormKind::RmsNorm { unit_offset: true }) => {
            Distribution::Constant(0.0)
        }
        (Role::Norm, _) => Distribution::Constant(1.0),
        (Role::Matrix | Role::Embedding, _) => Distribution::Normal { std: config.initializer_range },
    }
}

/// The quantities that the `model` section of a run may set for every family with these keys.
pub const SECTION_KEYS: &[SectionKey] = &[
    SectionKey { names: &["vocab_size"], writes: &["vocab_size"] },
    SectionKey { names: &["hidden_size", "d_model"], writes: &["hidden_size"] },
    SectionKey { names: &["intermediate_size", "d_ff"], writes: &["intermediate_size"] },
    SectionKey { names: &["num_hidden_layers", "n_layers"], writes: &["num_hidden_layers"] },
    SectionKey { names: &["num_attention_heads", "n_heads"], writes: &["num_attention_heads"] },
    SectionKey { names: &["num_key_value_heads"], writes: &["num_key_value_heads"] },
    SectionKey { names: &["head_dim"], writes: &["head_dim"] },
    SectionKey { names: &["max_position_embeddings", "max_seq_len"], writes: &["max_position_embeddings"] },
    SectionKey { names: &["hidden_act"], writes: &["hidden_act"] },
    SectionKey { names: &["rope_theta"], writes: &["rope_theta"] },
    SectionKey { names: &["rope_scaling", "rope_parameters"], writes: &["rope_scaling"] },
    SectionKey { names: &["initializer_range"], writes: &["initializer_range"] },
    SectionKey { names: &["tie_word_embeddings"], writes: &["tie_word_embeddings"] },
    SectionKey { names: &["attention_dropout"], writes: &["attention_dropout"] },
    SectionKey { names: &["bos_token_id"], writes: &["bos_token_id"] },
    SectionKey { names: &["eos_token_id"], writes: &["eos_token_id"] },
];

/// Keys of families with RMSNorm, besides [`SECTION_KEYS`].
pub const RMS_NORM_KEYS: &[SectionKey] =
    &[SectionKey { names: &["rms_norm_eps"], writes: &["rms_norm_eps"] }];

/// Keys of families with LayerNorm and dropout, besides [`SECTION_KEYS`].
pub const LAYER_NORM_KEYS: &[SectionKey] = &[
    SectionKey { names: &["layer_norm_eps"], writes: &["layer_norm_eps"] },
    SectionKey { names: &["dropout"], writes: &["embd_pdrop", "resid_pdrop"] },
    SectionKey { names: &["embd_pdrop"], writes: &["embd_pdrop"] },
    SectionKey { names: &["resid_pdrop"], writes: &["resid_pdrop"] },
];

/// Keys of sliding windows, besides [`SECTION_KEYS`].
pub const WINDOW_KEYS: &[SectionKey] = &[
    SectionKey { names: &["sliding_window"], writes: &["sliding_window"] },
    SectionKey { names: &["use_sliding_window"], writes: &["use_sliding_window"] },
    SectionKey { names: &["max_window_layers"], writes: &["max_window_layers"] },
    SectionKey { names: &["layer_types"], writes: &["layer_types"] },
];

/// A complete `config.json` for training from scratch but for the sizes: what all families share, and `own`.
pub fn from_scratch(model_type: &str, architecture: &str, own: Value) -> Map<String, Value> {
    let shared = json!({
        "architectures": [architecture],
        "bos_token_id": null,
        "eos_token_id": null,
        "initializer_range": 0.02,
        "model_type": model_type,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
    });
    let objects = [shared, own].into_iter().filter_map(|value| match value {
        Value::Object(object) => Some(object),
        _ => None,
    });
    objects.flatten().collect()
}
