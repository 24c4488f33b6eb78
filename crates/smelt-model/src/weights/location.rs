//! Where files may hold a tensor of the model: under Hugging Face's names, or under those of mlx-lm.
//!
//! mlx-lm keeps matrices as they are multiplied by, and the matrices of all experts of a block in one tensor.

use super::checkpoint::Checkpoint;
use super::file::TensorFile;
use super::names::NameMap;

/// A place that a file may have for a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The tensor's name.
    pub name: String,
    /// Its matrix is turned.
    pub transposed: bool,
    /// It holds the tensors of all experts, and this is the one.
    pub expert: Option<usize>,
}

/// What joins the experts of a block in the names of mlx-lm.
const JOINED_EXPERTS: &str = "switch_mlp";

impl NameMap {
    /// Where mlx-lm has the tensor at `path`.
    pub fn in_mlx(&self, path: &str) -> Location {
        let expert = path.split_once(".experts.").and_then(|(block, rest)| {
            let (index, rest) = rest.split_once('.')?;
            Some((format!("{}.{JOINED_EXPERTS}.{rest}", self.module_key(block)), index.parse().ok()?))
        });
        let (key, expert) = match expert {
            Some((key, index)) => (key, Some(index)),
            None => (self.key(path), None),
        };
        let renamed = self.mlx.iter().find_map(|(from, to)| Some(format!("{to}{}", key.strip_prefix(from)?)));
        Location { name: renamed.unwrap_or(key), transposed: false, expert }
    }

    /// The name that mlx-lm gives to the module at `path`.
    pub fn mlx_module(&self, path: &str) -> String {
        let weight = self.in_mlx(&format!("{path}.weight")).name;
        weight.strip_suffix(".weight").unwrap_or(&weight).to_owned()
    }

    /// Where `checkpoint` has the tensor at `path`, and the file.
    pub(super) fn locate<'c>(
        &self,
        checkpoint: &'c Checkpoint,
        path: &str,
    ) -> Option<(Location, &'c TensorFile)> {
        let key = self.key(path);
        let short = self.without_prefix(&key).map(str::to_owned);
        let transposed = self.is_transposed(&key);
        let hub = [Some(key), short].into_iter().flatten();
        let hub = hub.map(|name| Location { name, transposed, expert: None });
        hub.chain([self.in_mlx(path)])
            .find_map(|location| checkpoint.file_of(&location.name).map(|file| (location, file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::FAMILIES;

    fn place(model_type: &str, path: &str) -> (String, Option<usize>) {
        let family = FAMILIES.iter().find(|family| family.model_type == model_type).unwrap();
        let Location { name, expert, .. } = family.names.in_mlx(path);
        (name, expert)
    }

    #[test]
    fn names_are_those_of_mlx_lm() {
        let cases = [
            ("llama", "layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight", None),
            ("gpt2", "layers.1.self_attn.qkv_proj.scales", "model.h.1.attn.c_attn.scales", None),
            ("gptj", "lm_head.bias", "lm_head.bias", None),
            ("gpt_neox", "layers.1.mlp.up_proj.weight", "model.h.1.mlp.dense_h_to_4h.weight", None),
            ("gpt_neox", "embed_tokens.weight", "model.embed_in.weight", None),
            ("gpt_neox", "lm_head.biases", "model.embed_out.biases", None),
            (
                "mixtral",
                "layers.1.moe.experts.3.up_proj.weight",
                "model.layers.1.block_sparse_moe.switch_mlp.up_proj.weight",
                Some(3),
            ),
            ("mixtral", "layers.1.moe.router.weight", "model.layers.1.block_sparse_moe.gate.weight", None),
            (
                "qwen3_moe",
                "layers.0.moe.experts.12.down_proj.biases",
                "model.layers.0.mlp.switch_mlp.down_proj.biases",
                Some(12),
            ),
        ];
        for (model_type, path, name, expert) in cases {
            assert_eq!(place(model_type, path), (name.to_owned(), expert));
        }
    }
}
