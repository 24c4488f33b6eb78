//! How weights are divided into files, as transformers 5 does it.
//!
//! Tensors in the natural order of their names fill one shard after the other; a tensor larger than a shard
//! gets one of its own. Nothing is moved to fill gaps.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::checkpoint::WEIGHTS_FILE;

/// A weight on its way into a file.
pub trait Weight {
    /// Its name in files.
    fn name(&self) -> &str;
    /// Bytes in the file.
    fn bytes(&self) -> u64;
}

/// File names and what goes into each: one `model.safetensors`, or shards of `max_bytes`.
pub fn divide<W: Weight>(mut weights: Vec<W>, max_bytes: u64) -> Vec<(String, Vec<W>)> {
    weights.sort_by(|a, b| natural_order(a.name(), b.name()));
    let (mut shards, mut current, mut bytes) = (Vec::new(), Vec::new(), 0);
    for weight in weights {
        let needed = weight.bytes();
        if needed > max_bytes {
            shards.push(vec![weight]);
            continue;
        }
        if bytes + needed > max_bytes {
            shards.push(std::mem::take(&mut current));
            bytes = 0;
        }
        bytes += needed;
        current.push(weight);
    }
    if !current.is_empty() || shards.is_empty() {
        shards.push(current);
    }
    let count = shards.len();
    shards.into_iter().enumerate().map(|(index, shard)| (file_name(index, count), shard)).collect()
}

/// The index of several shards.
pub fn index<W: Weight>(shards: &[(String, Vec<W>)], parameters: u64) -> Value {
    let weights =
        || shards.iter().flat_map(|(file, weights)| weights.iter().map(move |weight| (file, weight)));
    let total: u64 = weights().map(|(_, weight)| weight.bytes()).sum();
    let map: BTreeMap<&str, &str> = weights().map(|(file, weight)| (weight.name(), file.as_str())).collect();
    json!({ "metadata": { "total_parameters": parameters, "total_size": total }, "weight_map": map })
}

/// `name` is that of a shard, of however many.
pub(super) fn is_shard(name: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    numbers.and_then(|numbers| numbers.split_once("-of-")).is_some_and(|(a, b)| number(a) && number(b))
}

fn file_name(index: usize, count: usize) -> String {
    match count {
        1 => WEIGHTS_FILE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    }
}

/// Segment by segment, numbers by their value, before texts.
fn natural_order(a: &str, b: &str) -> Ordering {
    a.split('.').map(segment).cmp(b.split('.').map(segment))
}

/// A number, or a text and the number at its end, in the order of transformers.
fn segment(text: &str) -> (bool, &str, Option<u64>) {
    let word = text.trim_end_matches(|c: char| c.is_ascii_digit());
    (!word.is_empty(), word, text[word.len()..].parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weight for (&str, u64) {
        fn name(&self) -> &str {
            self.0
        }

        fn bytes(&self) -> u64 {
            self.1
        }
    }

    #[test]
    fn shards_fill_in_natural_order_and_large_tensors_stand_alone() {
        let weights = vec![
            ("h.10.b", 2),
            ("h.2.a", 6),
            ("h.2.c", 2),
            ("wte", 50),
            ("h.10.a", 6),
            ("h.w2", 1),
            ("h.w10", 1),
        ];
        let shards = divide(weights, 9);
        let names: Vec<String> = shards
            .iter()
            .map(|(_, shard)| shard.iter().map(|weight| weight.0).collect::<Vec<_>>().join(" "))
            .collect();
        // As huggingface_hub 2.4 divides them: the shard in the making goes on after the large tensor.
        assert_eq!(names, ["h.2.a h.2.c", "h.10.a h.10.b h.w2", "wte", "h.w10"]);
        assert_eq!(shards[3].0, "model-00004-of-00004.safetensors");
        assert!(shards.iter().all(|(file, _)| is_shard(file)));
        let index = index(&shards, 34);
        assert_eq!(index["metadata"], json!({"total_parameters": 34, "total_size": 68}));
        assert_eq!(index["weight_map"]["wte"], "model-00003-of-00004.safetensors");
    }

    #[test]
    fn what_fits_is_one_file_without_a_number() {
        let shards = divide(vec![("a", 5), ("b", 4)], 9);
        assert_eq!((shards.len(), shards[0].0.as_str()), (1, WEIGHTS_FILE));
        assert!(!is_shard(WEIGHTS_FILE) && !is_shard("model-1-of-2.safetensors"));
    }
}
