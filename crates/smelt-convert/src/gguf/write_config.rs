//! From a model's configuration to the metadata of a GGUF file, under the keys of `convert_hf_to_gguf.py`.

use serde_json::Value as Json;
use smelt_model::{DecoderConfig, ModelConfig, NormKind, Positions, RopeScaling};

use super::architecture::Architecture;
use super::rope::{RopeFactors, write_scaling};
use super::value::{Metadata, Value};

/// Where configurations name the activation of the feed-forward part.
pub(super) const ACTIVATION_KEYS: [&str; 3] = ["hidden_act", "activation_function", "hidden_activation"];

/// What a file says of a model besides its weights and tokens.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) metadata: Metadata,
    /// Divisors of frequencies, which become tensors.
    pub(super) rope: RopeFactors,
    /// What llama.cpp will not do as this model does.
    pub(super) notes: Vec<String>,
}

/// Describes the model of `config`.
pub(super) fn describe(config: &ModelConfig, architecture: &Architecture) -> Described {
    let mut writer =
        Writer { decoder: &config.decoder, architecture, metadata: Metadata::default(), notes: Vec::new() };
    writer.sizes(config);
    writer.activation(config);
    let rope = writer.positions();
    writer.windows();
    writer.experts();
    if config.family.model_type == "qwen" {
        writer.qwen();
    }
    Described { metadata: writer.metadata, rope, notes: writer.notes }
}

struct Writer<'a> {
    decoder: &'a DecoderConfig,
    architecture: &'a Architecture,
    metadata: Metadata,
    notes: Vec<String>,
}

impl Writer<'_> {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.metadata.set(format!("{}.{name}", self.architecture.name), value);
    }

    fn sizes(&mut self, config: &ModelConfig) {
        let (decoder, attention) = (self.decoder, &self.decoder.attention);
        self.set("vocab_size", decoder.vocab_size);
        self.set("context_length", decoder.max_position_embeddings);
        self.set("embedding_length", decoder.hidden_size);
        self.set("block_count", decoder.num_hidden_layers);
        // Qwen 1 counts both halves of the gated part.
        let halves = if config.family.model_type == "qwen" { 2 } else { 1 };
        self.set("feed_forward_length", halves * decoder.mlp.intermediate_size);
        self.set("attention.head_count", attention.num_attention_heads);
        self.set("attention.head_count_kv", attention.num_key_value_heads);
        if attention.query_size() != decoder.hidden_size
            || config.raw.get("head_dim").is_some_and(Json::is_u64)
        {
            self.set("attention.key_length", attention.head_dim);
            self.set("attention.value_length", attention.head_dim);
        }
        match decoder.norm.kind {
            NormKind::LayerNorm { .. } => self.set("attention.layer_norm_epsilon", decoder.norm.epsilon),
            NormKind::RmsNorm { .. } => self.set("attention.layer_norm_rms_epsilon", decoder.norm.epsilon),
        }
        if let Some(cap) = attention.softcap {
            self.set("attn_logit_softcapping", cap);
        }
        if let Some(cap) = decoder.head.softcap {
            self.set("final_logit_softcapping", cap);
        }
        if self.architecture.name == "gptneox" {
            let parallel = !matches!(decoder.residual, smelt_model::Residual::Sequential);
            self.set("use_parallel_residual", parallel);
        }
    }

    /// Which GELU a family's models have is theirs to say; llama.cpp takes the tanh form for all.
    fn activation(&mut self, config: &ModelConfig) {
        let usual = (config.family.from_scratch)();
        for key in ACTIVATION_KEYS {
            if let Some(Json::String(name)) = config.raw.get(key).filter(|name| usual.get(key) != Some(name))
            {
                self.set(key, name.as_str());
            }
        }
    }

    fn positions(&mut self) -> RopeFactors {
        let Positions::Rotary(rotary) = &self.decoder.positions else { return RopeFactors::default() };
        self.set("rope.dimension_count", rotary[0].rotary_dim);
        self.set("rope.freq_base", rotary[0].theta);
        if let Some(local) = rotary.get(1) {
            self.set("rope.freq_base_swa", local.theta);
        }
        let prefix = format!("{}.rope.scaling", self.architecture.name);
        let factors = write_scaling(&rotary[0], &prefix, &mut self.metadata);
        let name = self.architecture.name;
        let note = match &rotary[0].scaling {
            RopeScaling::Dynamic { original_length, .. } => Some(format!(
                "GGUF has no dynamic scaling of positions: beyond {original_length} positions llama.cpp differs"
            )),
            RopeScaling::LongRope { original_length, .. } => Some(format!(
                "llama.cpp takes the long factors where its context (`-c`) is over {original_length}, however long \
                 the text is"
            )),
            RopeScaling::Yarn(yarn) if (yarn.beta_fast, yarn.beta_slow) != (32.0, 1.0) => {
                Some(format!("llama.cpp's `{name}` takes YaRN's usual betas, 32 and 1"))
            }
            _ => None,
        };
        self.notes.extend(note);
        factors
    }

    fn windows(&mut self) {
        let flags: Vec<bool> =
            self.decoder.layers.iter().map(|layer| layer.sliding_window.is_some()).collect();
        let Some(window) = self.decoder.layers.iter().find_map(|layer| layer.sliding_window) else {
            match self.architecture.name {
                "phi3" | "gemma3" => self.set("attention.sliding_window", 0usize),
                // A window of 0 would hide everything, and none at all stands for the usual one.
                "gemma2" => {
                    self.set("attention.sliding_window", self.decoder.max_position_embeddings);
                    self.set("attention.sliding_window_pattern", flags);
                }
                _ => {}
            }
            return;
        };
        self.set("attention.sliding_window", window);
        let usual = |every: usize| (0..flags.len()).map(|layer| layer % every < every - 1).collect();
        let expected = match self.architecture.window_pattern {
            Some(every) => usual(every),
            None => vec![true; flags.len()],
        };
        if flags != expected {
            self.set("attention.sliding_window_pattern", flags);
        }
        if self.architecture.window_pattern.is_none() {
            self.notes.push(format!(
                "llama.cpp's `{}` has no windows: beyond {window} positions it differs",
                self.architecture.name
            ));
        }
    }

    fn experts(&mut self) {
        let Some(experts) = self.decoder.experts else { return };
        self.set("expert_count", experts.num_experts);
        self.set("expert_used_count", experts.num_experts_per_tok);
        if self.architecture.name == "llama" {
            self.set("feed_forward_length", experts.intermediate_size);
        } else {
            self.set("expert_feed_forward_length", experts.intermediate_size);
        }
        if let Some(shared) = experts.shared_expert_intermediate_size {
            self.set("expert_shared_feed_forward_length", shared);
        }
        if experts.norm_topk_prob != self.architecture.normalizes_experts {
            self.set("expert_weights_norm", experts.norm_topk_prob);
            let does = if experts.norm_topk_prob { "does not scale" } else { "scales" };
            self.notes.push(format!(
                "llama.cpp's `{}` {does} the weights of experts to sum to 1, unlike this model",
                self.architecture.name
            ));
        }
    }

    fn qwen(&mut self) {
        let dynamic = match self.decoder.rotary().first().map(|rotary| &rotary.scaling) {
            Some(RopeScaling::PromptNtk { original_length }) => Some(*original_length),
            _ => None,
        };
        let logn = self.decoder.attention.log_scaling;
        self.set("use_dynamic_ntk", dynamic.is_some());
        self.set("use_logn_attn", logn.is_some());
        if let Some(length) = dynamic.or(logn) {
            self.set("rope.scaling.original_context_length", length);
            self.notes.push(format!("beyond {length} positions llama.cpp's `qwen` differs"));
        }
    }
}
