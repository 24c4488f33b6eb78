//! From the metadata of a GGUF file to a Hugging Face `config.json`.

use serde_json::{Map, Value as Json, json};
use smelt_model::family::FAMILIES;
use smelt_model::{Family, ModelConfig};

use super::architecture::Architecture;
use super::rope::{RopeFactors, read_scaling};
use super::value::{Metadata, missing};
use super::write_config::ACTIVATION_KEYS;
use crate::ConvertError;

/// Which tensors of a file tell what its metadata do not.
#[derive(Debug)]
pub(super) struct TensorFacts {
    /// Rows of the token embedding.
    pub(super) vocab_size: usize,
    /// The head is the token embedding.
    pub(super) tied: bool,
    /// The attention projections have biases.
    pub(super) attention_bias: bool,
    /// The feed-forward projections have biases.
    pub(super) mlp_bias: bool,
    /// Divisors of frequencies.
    pub(super) rope: RopeFactors,
}

/// The configuration that `metadata` describe.
///
/// # Errors
/// [`ConvertError::BadMetadata`] for what is missing or does not fit, [`ConvertError::UnknownArchitecture`], and
/// those of [`ModelConfig::from_json`].
pub(super) fn read_config(metadata: &Metadata, facts: &TensorFacts) -> Result<ModelConfig, ConvertError> {
    let name = metadata.text("general.architecture")?;
    let name = name.ok_or_else(|| missing("general.architecture", "a text"))?;
    let keys = Keys { metadata, architecture: Architecture::named(name)? };
    let family = keys.family()?;
    let mut raw = (family.from_scratch)();
    raw.insert("vocab_size".to_owned(), facts.vocab_size.into());
    raw.insert("tie_word_embeddings".to_owned(), facts.tied.into());
    keys.sizes(&mut raw)?;
    keys.positions(&mut raw, facts)?;
    keys.attention(&mut raw, facts)?;
    keys.windows(&mut raw)?;
    keys.experts(&mut raw)?;
    keys.tokens(&mut raw, facts.vocab_size)?;
    Ok(ModelConfig::from_json(Json::Object(raw))?)
}

/// Blocks that are listed one by one: far more than any model has.
const MOST_LISTED_BLOCKS: usize = 1 << 12;

/// Metadata under the name of their architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'static Architecture,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name)
    }

    fn count(&self, name: &str) -> Result<Option<usize>, ConvertError> {
        self.metadata.count(&self.key(name))
    }

    fn required(&self, name: &str) -> Result<usize, ConvertError> {
        self.metadata.required_count(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, ConvertError> {
        Ok(self.metadata.number(&self.key(name))?.map(shortest))
    }

    /// The width of a head.
    fn head_dim(&self) -> Result<usize, ConvertError> {
        let heads = self.required("attention.head_count")?.max(1);
        Ok(self.count("attention.key_length")?.unwrap_or(self.required("embedding_length")? / heads))
    }

    /// Llama's architecture stands for three families.
    fn family(&self) -> Result<&'static Family, ConvertError> {
        let experts = self.count("expert_count")?.unwrap_or(0) > 0;
        let window = self.count("attention.sliding_window")?.unwrap_or(0) > 0;
        let model_type = match self.architecture.model_types {
            [_, _, mixtral] if experts => mixtral,
            [_, mistral, _] if window => mistral,
            types => types[0],
        };
        let family = FAMILIES.iter().find(|family| family.model_type == model_type);
        Ok(family.copied().expect("every architecture is that of a family"))
    }

    fn sizes(&self, raw: &mut Map<String, Json>) -> Result<(), ConvertError> {
        let epsilon = match self.number("attention.layer_norm_rms_epsilon")? {
            Some(epsilon) => Some(epsilon),
            None => self.number("attention.layer_norm_epsilon")?,
        };
        let epsilon =
            epsilon.ok_or_else(|| missing(&self.key("attention.layer_norm_rms_epsilon"), "a number"))?;
        let (context, width) = (self.required("context_length")?, self.required("embedding_length")?);
        let (blocks, inner) = (self.required("block_count")?, self.required("feed_forward_length")?);
        let heads = self.required("attention.head_count")?;
        let sizes = match self.architecture.name {
            "gpt2" => json!({
                "n_embd": width, "n_layer": blocks, "n_head": heads, "n_positions": context, "n_ctx": context,
                "n_inner": inner, "layer_norm_epsilon": epsilon,
            }),
            name => {
                let epsilon_key = match name {
                    "phi2" | "gptneox" => "layer_norm_eps",
                    "qwen" => "layer_norm_epsilon",
                    _ => "rms_norm_eps",
                };
                json!({
                    "hidden_size": width, "num_hidden_layers": blocks, "num_attention_heads": heads,
                    "max_position_embeddings": context, "intermediate_size": inner, epsilon_key: epsilon,
                })
            }
        };
        extend(raw, sizes);
        for key in ACTIVATION_KEYS {
            if let Some(name) = self.metadata.text(&self.key(key))? {
                raw.insert(key.to_owned(), name.into());
            }
        }
        Ok(())
    }

    fn positions(&self, raw: &mut Map<String, Json>, facts: &TensorFacts) -> Result<(), ConvertError> {
        let theta = self.number("rope.freq_base")?.unwrap_or(10000.0);
        let head_dim = self.head_dim()?;
        let rotary_dim = self.count("rope.dimension_count")?.unwrap_or(head_dim);
        let share = rotary_share(rotary_dim, head_dim);
        let keys = match self.architecture.name {
            "gpt2" => return Ok(()),
            "gptneox" => json!({"rotary_emb_base": theta, "rotary_pct": share}),
            "qwen" => {
                let seq_length = self.count("rope.scaling.original_context_length")?;
                json!({
                    "rotary_emb_base": theta, "rotary_pct": share, "kv_channels": head_dim,
                    "seq_length": seq_length.unwrap_or(self.required("context_length")?),
                })
            }
            "phi2" | "phi3" => json!({"rope_theta": theta, "partial_rotary_factor": share}),
            _ if rotary_dim != head_dim => json!({"rope_theta": theta, "partial_rotary_factor": share}),
            _ => json!({"rope_theta": theta}),
        };
        extend(raw, keys);
        if self.architecture.name == "gemma3" {
            let local = self.number("rope.freq_base_swa")?.unwrap_or(10000.0);
            extend(raw, json!({"rope_local_base_freq": local}));
        }
        let prefix = self.key("rope.scaling");
        let context = self.required("context_length")?;
        if let Some(scaling) = read_scaling(self.metadata, &prefix, &facts.rope, theta, context)? {
            let original = scaling.get("original_max_position_embeddings");
            if let Some(original) = original.filter(|_| self.architecture.name == "phi3") {
                raw.insert("original_max_position_embeddings".to_owned(), original.clone());
            }
            raw.insert("rope_scaling".to_owned(), scaling);
        }
        Ok(())
    }

    fn attention(&self, raw: &mut Map<String, Json>, facts: &TensorFacts) -> Result<(), ConvertError> {
        let heads = self.required("attention.head_count")?;
        let key_value_heads = self.count("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = self.head_dim()?;
        if !matches!(self.architecture.name, "gpt2" | "gptneox" | "qwen") {
            extend(raw, json!({"num_key_value_heads": key_value_heads}));
            let derived =
                heads > 0 && heads.checked_mul(head_dim) == Some(self.required("embedding_length")?);
            if !derived || self.count("attention.key_length")?.is_some() {
                extend(raw, json!({"head_dim": head_dim}));
            }
        }
        match self.architecture.name {
            "llama" => {
                extend(raw, json!({"attention_bias": facts.attention_bias, "mlp_bias": facts.mlp_bias}));
            }
            "qwen2moe" => extend(raw, json!({"qkv_bias": facts.attention_bias})),
            "gptneox" => {
                let key = self.key("use_parallel_residual");
                extend(raw, json!({"use_parallel_residual": self.metadata.flag(&key)?.unwrap_or(true)}));
            }
            "gemma2" | "gemma3" => {
                let blocks = Some(self.required("block_count")?);
                let by_width = self.architecture.blocks_scaled_by_hidden_size == blocks && heads > 0;
                let width = if by_width { self.required("embedding_length")? / heads } else { head_dim };
                // What llama.cpp takes for granted where the file says nothing.
                let [scores, logits] =
                    if self.architecture.name == "gemma2" { [50.0, 30.0] } else { [0.0; 2] };
                let cap = |name: &str, usual: f64| {
                    Ok::<_, ConvertError>(Some(self.number(name)?.unwrap_or(usual)).filter(|cap| *cap != 0.0))
                };
                extend(
                    raw,
                    json!({
                        "query_pre_attn_scalar": width,
                        "attn_logit_softcapping": cap("attn_logit_softcapping", scores)?,
                        "final_logit_softcapping": cap("final_logit_softcapping", logits)?,
                    }),
                );
            }
            "qwen" => {
                let dynamic = self.metadata.flag(&self.key("use_dynamic_ntk"))?.unwrap_or(false);
                let logn = self.metadata.flag(&self.key("use_logn_attn"))?.unwrap_or(false);
                extend(raw, json!({"use_dynamic_ntk": dynamic, "use_logn_attn": logn, "no_bias": true}));
            }
            _ => {}
        }
        Ok(())
    }

    fn windows(&self, raw: &mut Map<String, Json>) -> Result<(), ConvertError> {
        let is_gemma3 = self.architecture.name == "gemma3";
        let found = self.count("attention.sliding_window")?;
        // Without a window, llama.cpp's Gemma 3 has none; others keep what is usual.
        if found.is_none() && !is_gemma3 {
            return Ok(());
        }
        let window = found.filter(|window| *window > 0);
        raw.insert("sliding_window".to_owned(), window.into());
        if window.is_none() {
            if is_gemma3 {
                let blocks = self.required("block_count")?.min(MOST_LISTED_BLOCKS);
                extend(raw, json!({"layer_types": vec!["full_attention"; blocks]}));
            }
            return Ok(());
        }
        if self.architecture.name.starts_with("qwen") {
            extend(raw, json!({"use_sliding_window": true}));
        }
        let key = self.key("attention.sliding_window_pattern");
        let blocks = self.required("block_count")?;
        let listed = match self.metadata.get(&key) {
            Some(super::value::Value::Flags(flags)) => Some(flags.clone()),
            Some(_) => {
                extend(raw, json!({"sliding_window_pattern": self.metadata.required_count(&key)?}));
                None
            }
            // Qwen's windows begin at some layer unless they are listed.
            None if self.architecture.name.starts_with("qwen") => {
                Some(vec![true; blocks.min(MOST_LISTED_BLOCKS)])
            }
            None => None,
        };
        if let Some(flags) = listed {
            let name = |slides: &bool| if *slides { "sliding_attention" } else { "full_attention" };
            extend(raw, json!({"layer_types": flags.iter().map(name).collect::<Vec<_>>()}));
        }
        Ok(())
    }

    fn experts(&self, raw: &mut Map<String, Json>) -> Result<(), ConvertError> {
        let Some(count) = self.count("expert_count")?.filter(|count| *count > 0) else { return Ok(()) };
        let used = self.required("expert_used_count")?;
        let key = self.key("expert_weights_norm");
        let normalized = self.metadata.flag(&key)?.unwrap_or(self.architecture.normalizes_experts);
        if self.architecture.name == "llama" {
            extend(raw, json!({"num_local_experts": count, "num_experts_per_tok": used}));
            return Ok(());
        }
        let width = match self.count("expert_feed_forward_length")? {
            Some(width) => width,
            None => self.required("feed_forward_length")? / used.max(1),
        };
        extend(
            raw,
            json!({
                "num_experts": count, "num_experts_per_tok": used, "moe_intermediate_size": width,
                "norm_topk_prob": normalized,
            }),
        );
        if self.architecture.name == "qwen2moe" {
            let shared = self.count("expert_shared_feed_forward_length")?;
            let shared = shared.unwrap_or(self.required("feed_forward_length")?);
            extend(raw, json!({"shared_expert_intermediate_size": shared}));
        }
        Ok(())
    }

    fn tokens(&self, raw: &mut Map<String, Json>, vocab_size: usize) -> Result<(), ConvertError> {
        let token = |role: &str| self.metadata.token(role, vocab_size);
        let (end, turn) = (token("eos")?, token("eot")?);
        let ends: Vec<u32> = end.into_iter().chain(turn.filter(|turn| Some(*turn) != end)).collect();
        let ends = if let [end] = ends.as_slice() { json!(end) } else { json!(ends) };
        raw.insert("bos_token_id".to_owned(), token("bos")?.into());
        raw.insert("eos_token_id".to_owned(), if end.is_none() { Json::Null } else { ends });
        if let Some(pad) = token("padding")? {
            raw.insert("pad_token_id".to_owned(), pad.into());
        }
        Ok(())
    }
}

fn extend(raw: &mut Map<String, Json>, keys: Json) {
    if let Json::Object(keys) = keys {
        raw.extend(keys);
    }
}

/// The shortest decimal that gives the same f32: files hold `1e-5` as 9.999999747378752e-6.
pub(super) fn shortest(number: f64) -> f64 {
    let single = number as f32;
    match f64::from(single) == number {
        true => single.to_string().parse().unwrap_or(number),
        false => number,
    }
}

/// A share of `head_dim` that gives `rotary_dim` back when it is multiplied and cut.
fn rotary_share(rotary_dim: usize, head_dim: usize) -> f64 {
    let share = rotary_dim as f64 / head_dim.max(1) as f64;
    if (head_dim as f64 * share) as usize == rotary_dim { share } else { share.next_up() }
}
