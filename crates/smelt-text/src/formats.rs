//! Tokenizers in other files than `tokenizer.json`, put into that format.
//!
//! GPT-2's `vocab.json` with `merges.txt`, and SentencePiece's `tokenizer.model`. What they leave open
//! (special tokens, what is put around a text) is read from the files that transformers keeps beside
//! them.

pub mod sentencepiece;
mod vocab_merges;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use crate::special_tokens::{self, read_object};
use crate::{TOKENIZER_CONFIG_FILE, TextError};

/// Names under which folders hold a SentencePiece model.
const SENTENCEPIECE_FILES: [&str; 3] = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];

/// The tokenizer of a folder without `tokenizer.json`, in that format, and the file it came from.
pub fn convert_folder(folder: &Path) -> Option<Result<Vec<u8>, TextError>> {
    if let Some(name) = SENTENCEPIECE_FILES.iter().find(|name| folder.join(name).is_file()) {
        return Some(convert_sentencepiece(&folder.join(name)));
    }
    let vocab = folder.join(vocab_merges::VOCAB_FILE);
    vocab.is_file().then(|| vocab_merges::convert(folder, &Settings::read(folder)?))
}

/// A SentencePiece model in the format of `tokenizer.json`, with the settings in its folder.
pub fn convert_sentencepiece(path: &Path) -> Result<Vec<u8>, TextError> {
    sentencepiece::convert(path, &Settings::read(path.parent().unwrap_or(Path::new("")))?)
}

/// What a folder says about its tokenizer beside the vocabulary.
#[derive(Default)]
pub struct Settings {
    /// Keys of `tokenizer_config.json`.
    pub config: Map<String, Value>,
    /// Tokens by role (`bos_token`, ...).
    pub named: Map<String, Value>,
    /// Tokens with ids of their own.
    pub added: BTreeMap<u32, AddedToken>,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self, TextError> {
        let config = read_object(&folder.join(TOKENIZER_CONFIG_FILE))?;
        let named = special_tokens::named(folder, &config)?;
        let added = special_tokens::added(folder, &config)?;
        Ok(Self { config, named, added })
    }

    /// A switch of `tokenizer_config.json`.
    fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key)?.as_bool()
    }

    /// Whether the class that transformers would open the folder with starts with one of `names`.
    fn class_starts_with(&self, names: &[&str]) -> bool {
        let class = self.config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        names.iter().any(|name| class.starts_with(name))
    }

    fn named(&self, role: &str) -> Option<&str> {
        self.named.get(role)?.as_str()
    }
}

/// The parts of a `tokenizer.json`.
#[derive(Default)]
pub struct Parts {
    /// Tokens that are found before all else, by id.
    pub added_tokens: BTreeMap<u32, AddedToken>,
    /// What happens to a text first.
    pub normalizer: Value,
    /// How it is split.
    pub pre_tokenizer: Value,
    /// What is put around it.
    pub post_processor: Value,
    /// From tokens back to text.
    pub decoder: Value,
    /// From words to tokens.
    pub model: Value,
}

impl Parts {
    /// Adds the tokens of `settings`: those with ids, and the named ones that `id_of` knows.
    fn add_special_tokens(&mut self, settings: &Settings, id_of: impl Fn(&str) -> Option<u32>) {
        for token in settings.named.values().filter_map(Value::as_str) {
            if let Some(id) = id_of(token) {
                let special = || AddedToken::from(token, true).normalized(false);
                self.added_tokens.entry(id).or_insert_with(special);
            }
        }
        self.added_tokens.extend(settings.added.iter().map(|(id, token)| (*id, token.clone())));
    }

    /// The file.
    pub fn into_json(self) -> Vec<u8> {
        let token = |(id, token): (&u32, &AddedToken)| {
            json!({
                "id": id,
                "content": token.content,
                "single_word": token.single_word,
                "lstrip": token.lstrip,
                "rstrip": token.rstrip,
                "normalized": token.normalized,
                "special": token.special,
            })
        };
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens.iter().map(token).collect::<Vec<_>>(),
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": self.post_processor,
            "decoder": self.decoder,
            "model": self.model,
        });
        format!("{file:#}").into_bytes()
    }
}

/// A byte-pair model in which everything is switched off that can be.
pub fn bpe(vocab: Value, merges: Value) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": vocab,
        "merges": merges,
    })
}

/// Puts `before` and `after`, tokens with their ids, around a text.
pub fn around(before: Option<(&str, u32)>, after: Option<(&str, u32)>) -> Value {
    let token = |(name, _): (&str, u32)| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    let single: Vec<Value> =
        before.map(token).into_iter().chain([text("A", 0)]).chain(after.map(token)).collect();
    let pair: Vec<Value> = single.iter().cloned().chain([text("B", 1)]).collect();
    let special_tokens: Map<String, Value> = [before, after]
        .into_iter()
        .flatten()
        .map(|(name, id)| (name.to_owned(), json!({"id": name, "ids": [id], "tokens": [name]})))
        .collect();
    if special_tokens.is_empty() {
        return Value::Null;
    }
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special_tokens})
}
