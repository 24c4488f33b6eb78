//! The names that llama.cpp gives to ways of splitting text before byte-level BPE, and the regular expressions
//! they stand for.

use serde_json::{Value, json};

use crate::split::{GPT4, QWEN2};

/// GPT-2's, which the `tokenizers` crate has built in.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: words change with their case.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o's: Tekken's with English contractions and up to three digits.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// One way to split.
#[derive(Debug)]
pub(super) struct SplitRule {
    /// Its names; files are written with the first.
    pub(super) names: &'static [&'static str],
    /// Patterns that are applied one after the other; words that match stand alone.
    patterns: &'static [&'static str],
    /// Words of the vocabulary are taken whole, whatever the merges.
    pub(super) ignores_merges: bool,
    /// Texts begin with a token unless the file says otherwise.
    pub(super) adds_begin: bool,
    /// Text is composed (NFC) first.
    composes: bool,
}

const PLAIN: SplitRule =
    SplitRule { names: &[], patterns: &[], ignores_merges: false, adds_begin: false, composes: false };

/// All of them. The first that fits a pipeline names it.
pub(super) const RULES: &[SplitRule] = &[
    SplitRule {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "mellum", "modern-bert", "trillion"],
        patterns: &[GPT2],
        ..PLAIN
    },
    SplitRule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2", "midm-2.0"],
        patterns: &[GPT4],
        ignores_merges: true,
        adds_begin: true,
        ..PLAIN
    },
    SplitRule { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], patterns: &[GPT4], ..PLAIN },
    SplitRule { names: &["glm4"], patterns: &[GPT4], ignores_merges: true, ..PLAIN },
    SplitRule { names: &["qwen2", "deepseek-r1-qwen", "kormo"], patterns: &[QWEN2], composes: true, ..PLAIN },
    SplitRule { names: &["stablelm2", "hunyuan", "grok-2", "solar-open"], patterns: &[QWEN2], ..PLAIN },
    SplitRule {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"],
        patterns: &[r"\p{N}", GPT2],
        ..PLAIN
    },
    SplitRule { names: &["tekken"], patterns: &[TEKKEN], ignores_merges: true, adds_begin: true, ..PLAIN },
    SplitRule { names: &["gpt-4o", "llama4", "kanana2"], patterns: &[GPT4O], ..PLAIN },
    SplitRule { names: &["falcon"], patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"], ..PLAIN },
    SplitRule {
        names: &["deepseek-coder"],
        patterns: &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
        ..PLAIN
    },
    SplitRule {
        names: &["default", ""],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..PLAIN
    },
];

impl SplitRule {
    /// The rule of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.names.contains(&name))
    }

    /// The rule that splits as `pre_tokenizer` does, for a model that takes known words whole or not.
    pub(super) fn of(
        pre_tokenizer: &Value,
        normalizer: &Value,
        ignores_merges: bool,
    ) -> Option<&'static Self> {
        let patterns = patterns(pre_tokenizer)?;
        let same = RULES.iter().filter(|rule| rule.patterns == patterns);
        let composes = normalizer["type"] == "NFC";
        // Merges agree with whole words in what was trained; composing changes few texts.
        same.clone()
            .find(|rule| rule.ignores_merges == ignores_merges && rule.composes == composes)
            .or_else(|| same.clone().find(|rule| rule.ignores_merges == ignores_merges))
    }

    /// The normalizer of a pipeline.
    pub(super) fn normalizer(&self) -> Value {
        if self.composes { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// The pre-tokenizer of a pipeline.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        if self.patterns == [GPT2] {
            return byte_level(true);
        }
        let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let steps = self.patterns.iter().map(split).chain([byte_level(false)]);
        json!({"type": "Sequence", "pretokenizers": steps.collect::<Vec<_>>()})
    }
}

/// The patterns that a byte-level pre-tokenizer splits by; `None` if it does something else.
fn patterns(pre_tokenizer: &Value) -> Option<Vec<&str>> {
    let steps = match pre_tokenizer["type"].as_str()? {
        "Sequence" => pre_tokenizer["pretokenizers"].as_array()?.iter().collect(),
        _ => vec![pre_tokenizer],
    };
    let (last, first) = steps.split_last()?;
    if last["type"] != "ByteLevel" || last["add_prefix_space"] == true {
        return None;
    }
    let mut patterns = Vec::new();
    for step in first {
        patterns.push(match step["type"].as_str()? {
            "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
                step["pattern"]["Regex"].as_str()?
            }
            "Digits" if step["individual_digits"] == true => r"\p{N}",
            _ => return None,
        });
    }
    if last["use_regex"].as_bool().unwrap_or(true) {
        patterns.push(GPT2);
    }
    Some(patterns)
}
