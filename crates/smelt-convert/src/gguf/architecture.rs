//! The architectures of llama.cpp that are families here, and what it takes for granted about each.

use smelt_backend::kernels::Activation;
use smelt_model::{DecoderConfig, ModelConfig, NormKind, RopeScaling};

use crate::ConvertError;

/// One architecture.
#[derive(Debug)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// The families that are written as it; files are read as the first unless they tell of another.
    pub model_types: &'static [&'static str],
    /// Queries and keys rotate in pairs of neighbours, so that their rows lie in another order.
    pub(super) rotates_pairs: bool,
    /// The head is a tensor of its own even if it equals the embedding.
    pub(super) needs_head: bool,
    /// Experts' weights of a token are scaled to sum to 1.
    pub(super) normalizes_experts: bool,
    /// The blocks of a model whose scores are scaled by `hidden_size / heads` instead of the width of a head.
    pub(super) blocks_scaled_by_hidden_size: Option<usize>,
    /// Every how many layers one sees everything, unless the file says otherwise.
    pub(super) window_pattern: Option<usize>,
}

const PLAIN: Architecture = Architecture {
    name: "",
    model_types: &[],
    rotates_pairs: false,
    needs_head: false,
    normalizes_experts: true,
    blocks_scaled_by_hidden_size: None,
    window_pattern: None,
};

/// All of them.
pub(super) const ARCHITECTURES: [Architecture; 13] = [
    Architecture {
        name: "llama",
        model_types: &["llama", "mistral", "mixtral"],
        rotates_pairs: true,
        ..PLAIN
    },
    Architecture { name: "phi2", model_types: &["phi"], needs_head: true, ..PLAIN },
    Architecture { name: "phi3", model_types: &["phi3"], ..PLAIN },
    Architecture { name: "qwen", model_types: &["qwen"], needs_head: true, ..PLAIN },
    Architecture { name: "qwen2", model_types: &["qwen2"], ..PLAIN },
    Architecture {
        name: "qwen2moe",
        model_types: &["qwen2_moe"],
        needs_head: true,
        normalizes_experts: false,
        ..PLAIN
    },
    Architecture { name: "qwen3", model_types: &["qwen3"], ..PLAIN },
    Architecture { name: "qwen3moe", model_types: &["qwen3_moe"], ..PLAIN },
    Architecture { name: "gpt2", model_types: &["gpt2"], ..PLAIN },
    Architecture { name: "gptneox", model_types: &["gpt_neox"], needs_head: true, ..PLAIN },
    Architecture { name: "gemma", model_types: &["gemma"], ..PLAIN },
    Architecture {
        name: "gemma2",
        model_types: &["gemma2"],
        blocks_scaled_by_hidden_size: Some(46),
        window_pattern: Some(2),
        ..PLAIN
    },
    Architecture {
        name: "gemma3",
        model_types: &["gemma3_text"],
        blocks_scaled_by_hidden_size: Some(62),
        window_pattern: Some(6),
        ..PLAIN
    },
];

impl Architecture {
    /// The one that a file names.
    pub(super) fn named(name: &str) -> Result<&'static Self, ConvertError> {
        ARCHITECTURES.iter().find(|architecture| architecture.name == name).ok_or_else(|| {
            let names: Vec<&str> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
            ConvertError::UnknownArchitecture { found: name.to_owned(), available: names.join(", ") }
        })
    }

    /// The one for a family, if llama.cpp runs it.
    ///
    /// # Errors
    /// [`ConvertError::Inexpressible`] with what llama.cpp lacks.
    pub(super) fn of(config: &ModelConfig) -> Result<&'static Self, ConvertError> {
        let model_type = config.family.model_type;
        let inexpressible = |reason: String| ConvertError::Inexpressible { format: "GGUF", reason };
        let found = ARCHITECTURES.iter().find(|it| it.model_types.contains(&model_type));
        let architecture = found
            .ok_or_else(|| inexpressible(format!("llama.cpp does not run the family `{model_type}`")))?;
        match architecture.lacks(&config.decoder) {
            None => Ok(architecture),
            Some(what) => Err(inexpressible(format!("llama.cpp's `{}` has no {what}", architecture.name))),
        }
    }

    /// The scale of attention scores that llama.cpp computes with.
    pub(super) fn attention_scale(&self, config: &DecoderConfig) -> f64 {
        let width = match self.blocks_scaled_by_hidden_size == Some(config.num_hidden_layers) {
            true => config.hidden_size / config.attention.num_attention_heads,
            false => config.attention.head_dim,
        };
        (width as f64).sqrt().recip()
    }

    /// What llama.cpp has no tensor or switch for, so that it would refuse the file or compute another model.
    fn lacks(&self, config: &DecoderConfig) -> Option<&'static str> {
        let attention = &config.attention;
        let square = attention.query_size() == config.hidden_size;
        let sparse = config.layers.iter().filter(|layer| layer.sparse).count();
        match self.name {
            _ if attention.scale_by_inverse_layer => {
                Some("scores that are scaled by the number of the layer")
            }
            "phi2" if attention.query_key_norm.is_some() => Some("norms on queries and keys"),
            "qwen3" | "qwen3moe" if attention.output_bias => Some("biases in the attention"),
            "qwen" if attention.output_bias || config.mlp.bias => Some("biases but those of `c_attn`"),
            "gemma" | "gemma2" | "gemma3" if attention.qkv_bias => Some("biases in the attention"),
            "gemma2" if attention.softcap.is_none() => Some("scores without a soft-cap"),
            "gemma2" if config.head.softcap.is_none() => Some("logits without a soft-cap"),
            "gemma3" if attention.softcap.is_some() => Some("soft-cap on scores"),
            "llama" if config.rotary().iter().any(|it| it.rotary_dim != attention.head_dim) => {
                Some("rotation of a part of each head")
            }
            name if !scaling_fits(name, config) => Some("scaling of rotations by lists of divisors"),
            "gemma" | "gemma2" if !config.tie_word_embeddings => Some("head of its own"),
            "gptneox" if !attention.qkv_bias => Some("attention without biases"),
            "phi2" | "phi3" | "qwen" | "qwen2" | "qwen2moe" | "gpt2" | "gptneox" if !square => {
                Some("heads that together are wider or narrower than the model")
            }
            "gpt2" if config.learned_positions().is_none() => Some("rotations"),
            "qwen2moe" if config.experts.is_some_and(|it| it.shared_expert_intermediate_size.is_none()) => {
                Some("experts without a shared one")
            }
            _ if !activation_fits(self.name, config.mlp.activation) => {
                Some("feed-forward part with this activation")
            }
            _ if sparse > 0 && sparse < config.num_hidden_layers => Some("mix of dense and sparse blocks"),
            _ if !norms_fit(self.name, config) => Some("norm of this kind"),
            _ => None,
        }
    }
}

/// Divisors of frequencies are tensors, which few architectures read.
fn scaling_fits(name: &str, config: &DecoderConfig) -> bool {
    config.rotary().iter().all(|rotary| match rotary.scaling {
        RopeScaling::Llama3 { .. } => name == "llama",
        RopeScaling::LongRope { .. } => matches!(name, "llama" | "phi3"),
        _ => true,
    })
}

fn activation_fits(name: &str, activation: Activation) -> bool {
    let is_gelu = matches!(activation, Activation::Gelu | Activation::GeluTanh);
    let wants_gelu = matches!(name, "phi2" | "gpt2" | "gptneox" | "gemma" | "gemma2" | "gemma3");
    if wants_gelu { is_gelu } else { activation == Activation::Silu }
}

fn norms_fit(name: &str, config: &DecoderConfig) -> bool {
    let layer_norm = matches!(config.norm.kind, NormKind::LayerNorm { bias: true });
    layer_norm == matches!(name, "gpt2" | "gptneox" | "phi2")
}
