//! From paths in the model to names of tensors in GGUF files.
//!
//! Paths are the same for all families, so one table serves them all.

/// Modules outside of blocks.
const OUTER: [(&str, &str); 4] = [
    ("embed_tokens", "token_embd"),
    ("embed_positions", "position_embd"),
    ("norm", "output_norm"),
    ("lm_head", "output"),
];

/// Modules of a block.
const INNER: [(&str, &str); 20] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("attention_output_layernorm", "post_attention_norm"),
    ("mlp_output_layernorm", "post_ffw_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("moe.router", "ffn_gate_inp"),
    ("moe.shared_expert_gate", "ffn_gate_inp_shexp"),
    ("moe.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("moe.shared_expert.up_proj", "ffn_up_shexp"),
    ("moe.shared_expert.down_proj", "ffn_down_shexp"),
];

/// Projections of an expert.
const EXPERT: [(&str, &str); 3] =
    [("gate_proj", "ffn_gate"), ("up_proj", "ffn_up"), ("down_proj", "ffn_down")];

/// Where a file holds a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorName {
    /// The tensor.
    pub(super) name: String,
    /// Which of the experts that are stacked in it.
    pub(super) expert: Option<usize>,
}

/// The tensor for the parameter at `path`; `None` if there is no name for it.
pub(super) fn tensor_name(path: &str) -> Option<TensorName> {
    let (module, kind) = path.rsplit_once('.')?;
    let Some(inner) = module.strip_prefix("layers.") else {
        let name = find(&OUTER, module)?;
        return Some(TensorName { name: format!("{name}.{kind}"), expert: None });
    };
    let (layer, module) = inner.split_once('.')?;
    if let Some(rest) = module.strip_prefix("moe.experts.") {
        let (expert, projection) = rest.split_once('.')?;
        let name = format!("blk.{layer}.{}_exps.{kind}", find(&EXPERT, projection)?);
        return Some(TensorName { name, expert: Some(expert.parse().ok()?) });
    }
    let name = format!("blk.{layer}.{}.{kind}", find(&INNER, module)?);
    Some(TensorName { name, expert: None })
}

/// The tensor of one expert in files from before they were stacked.
pub(super) fn lone_expert(stacked: &TensorName) -> Option<String> {
    let expert = stacked.expert?;
    Some(stacked.name.replacen("_exps.", &format!(".{expert}."), 1))
}

fn find(table: &[(&str, &'static str)], module: &str) -> Option<&'static str> {
    table.iter().find(|(path, _)| *path == module).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_names_of_llama_cpp() {
        let cases = [
            ("embed_tokens.weight", "token_embd.weight", None),
            ("lm_head.bias", "output.bias", None),
            ("layers.11.self_attn.o_proj.weight", "blk.11.attn_output.weight", None),
            ("layers.0.mlp.gate_up_proj.weight", "blk.0.ffn_up.weight", None),
            ("layers.2.moe.experts.13.down_proj.weight", "blk.2.ffn_down_exps.weight", Some(13)),
            ("layers.2.moe.shared_expert.up_proj.weight", "blk.2.ffn_up_shexp.weight", None),
        ];
        for (path, name, expert) in cases {
            assert_eq!(tensor_name(path), Some(TensorName { name: name.to_owned(), expert }), "{path}");
        }
        let stacked = tensor_name("layers.2.moe.experts.13.down_proj.weight").unwrap();
        assert_eq!(lone_expert(&stacked).unwrap(), "blk.2.ffn_down.13.weight");
        assert_eq!(tensor_name("layers.0.self_attn.rotary.weight"), None);
    }
}
