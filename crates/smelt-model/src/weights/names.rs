//! From module paths to checkpoint keys.
//!
//! Fields are named as in Llama's checkpoints, so a family lists only where it differs. Renaming goes one
//! way: a reader computes the key of each parameter and looks it up.

/// How a family's checkpoint names and turns the parameters of a [`Decoder`](crate::Decoder).
#[derive(Debug, Clone, Copy)]
pub struct NameMap {
    /// In front of everything but `lm_head` in the files we write; readers accept keys without it too.
    pub body_prefix: &'static str,
    /// Whole segments of a path and what stands for them, the first that fits wins.
    pub renames: &'static [(&'static str, &'static str)],
    /// Ends of keys whose matrix files hold as `[in, out]`.
    pub transposed: &'static [&'static str],
    /// Ends of keys of buffers that files may hold and the model does not need.
    pub ignored: &'static [&'static str],
    /// Beginnings of keys and what mlx-lm has in their place, the first that fits.
    pub mlx: &'static [(&'static str, &'static str)],
}

/// The first segment of a head's path and key.
const HEAD: &str = "lm_head";

impl NameMap {
    /// The checkpoint key of the parameter at `path`.
    pub fn key(&self, path: &str) -> String {
        let segments: Vec<&str> = path.split('.').collect();
        let mut renamed: Vec<&str> = Vec::with_capacity(segments.len());
        let mut rest = segments.as_slice();
        while let Some(first) = rest.first() {
            let rename = self.renames.iter().find_map(|(from, to)| Some((skip(rest, from)?, to)));
            let (after, name) = rename.unwrap_or((&rest[1..], first));
            renamed.push(name);
            rest = after;
        }
        let prefix = if segments.first() == Some(&HEAD) { "" } else { self.body_prefix };
        format!("{prefix}{}", renamed.join("."))
    }

    /// The name that the family's checkpoints give to the module at `path`.
    pub fn module_key(&self, path: &str) -> String {
        let weight = self.key(&format!("{path}.weight"));
        weight.strip_suffix(".weight").unwrap_or(&weight).to_owned()
    }

    /// The spelling of `key` in files that leave out the prefix.
    pub fn without_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(self.body_prefix).filter(|_| !self.body_prefix.is_empty())
    }

    /// `key`, with the prefix if it lacks it.
    pub fn with_prefix(&self, key: &str) -> String {
        let head = self.module_key(HEAD);
        match key.strip_prefix(HEAD) {
            // Whatever a family calls it, for some versions of transformers it is this.
            Some(rest) => format!("{head}{rest}"),
            None if key.starts_with(self.body_prefix) || key.starts_with(&head) => key.to_owned(),
            None => format!("{}{key}", self.body_prefix),
        }
    }

    /// Files hold the matrix of `key` as `[in, out]`.
    pub fn is_transposed(&self, key: &str) -> bool {
        self.transposed.iter().any(|end| key.ends_with(end))
    }

    /// `key` names a buffer that the model does not need.
    pub fn is_ignored(&self, key: &str) -> bool {
        self.ignored.iter().any(|end| key.ends_with(end))
    }
}

/// `segments` after the segments of `pattern`, if they start with them.
fn skip<'s, 'a>(segments: &'s [&'a str], pattern: &str) -> Option<&'s [&'a str]> {
    let mut rest = segments;
    for expected in pattern.split('.') {
        let (first, after) = rest.split_first()?;
        if *first != expected {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::NameMap;
    use crate::family::FAMILIES;

    fn names(model_type: &str) -> NameMap {
        FAMILIES.iter().find(|family| family.model_type == model_type).unwrap().names
    }

    #[test]
    fn gpt2_paths_become_hub_names() {
        let cases = [
            ("embed_tokens.weight", "transformer.wte.weight"),
            ("embed_positions.weight", "transformer.wpe.weight"),
            ("layers.11.self_attn.qkv_proj.bias", "transformer.h.11.attn.c_attn.bias"),
            ("layers.0.self_attn.o_proj.weight", "transformer.h.0.attn.c_proj.weight"),
            ("layers.0.mlp.down_proj.weight", "transformer.h.0.mlp.c_proj.weight"),
            ("layers.3.post_attention_layernorm.weight", "transformer.h.3.ln_2.weight"),
            ("norm.bias", "transformer.ln_f.bias"),
            ("lm_head.weight", "lm_head.weight"),
        ];
        for (path, key) in cases {
            assert_eq!(names("gpt2").key(path), key);
        }
    }

    #[test]
    fn what_gemma_2_calls_its_norms_is_not_renamed_twice() {
        let cases = [
            ("layers.0.attention_output_layernorm.weight", "model.layers.0.post_attention_layernorm.weight"),
            ("layers.0.post_attention_layernorm.weight", "model.layers.0.pre_feedforward_layernorm.weight"),
            ("layers.0.mlp_output_layernorm.weight", "model.layers.0.post_feedforward_layernorm.weight"),
        ];
        for (path, key) in cases {
            assert_eq!(names("gemma2").key(path), key);
        }
    }

    #[test]
    fn heads_are_renamed_without_the_prefix() {
        assert_eq!(names("gpt_neox").key("lm_head.weight"), "embed_out.weight");
        assert_eq!(
            names("mixtral").key("layers.1.moe.router.weight"),
            "model.layers.1.block_sparse_moe.gate.weight"
        );
        assert_eq!(
            names("mixtral").key("layers.1.moe.experts.3.up_proj.weight"),
            "model.layers.1.block_sparse_moe.experts.3.w3.weight"
        );
    }

    #[test]
    fn only_whole_segments_are_renamed() {
        assert_eq!(names("gpt2").key("layers.0.q_norm.weight"), "transformer.h.0.q_norm.weight");
    }

    #[test]
    fn causal_mask_buffers_are_ignored_but_projection_biases_are_not() {
        let names = names("gpt2");
        assert!(names.is_ignored("h.0.attn.bias"));
        assert!(!names.is_ignored("h.0.attn.c_attn.bias"));
    }
}
