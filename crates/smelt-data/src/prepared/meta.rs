//! `meta.json`: what the other files of a prepared folder hold.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::SplitRule;
use crate::{Dedup, FileKind, OnInvalidUtf8, Reason, Recipe, Scrubbed, SizeLimits};

/// Name of the file that describes a prepared folder; written last.
pub const META_FILE: &str = "meta.json";
/// Name of the shard to train on.
pub const TRAIN_FILE: &str = "train.bin";
/// Name of the shard to validate on.
pub const VAL_FILE: &str = "val.bin";
/// Name of the index of documents in [`TRAIN_FILE`].
pub const TRAIN_DOCUMENTS_FILE: &str = "train.documents.bin";
/// Name of the index of documents in [`VAL_FILE`].
pub const VAL_DOCUMENTS_FILE: &str = "val.documents.bin";
/// Version of the folder's layout.
pub const META_VERSION: u32 = 2;

/// The contents of `meta.json`. Equal inputs and options give equal files: it holds no time, and paths only
/// as they were typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Version of the layout, [`META_VERSION`].
    pub version: u32,
    /// The program that wrote it.
    pub smelt_version: String,
    /// Every id in the shards is below it.
    pub vocab_size: usize,
    /// How the shards store an id.
    pub dtype: TokenDtype,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_sha256: String,
    /// The id after every document; None if the tokenizer has no such token.
    pub end_of_text: Option<u32>,
    /// Share of the corpus held out for validation.
    pub val_fraction: f64,
    /// Seed of the split.
    pub seed: u64,
    /// How the corpus was split.
    pub split: SplitRule,
    /// Tokens per sequence that the data is meant for.
    pub seq_length: Option<usize>,
    /// The shard to train on.
    pub train: ShardMeta,
    /// The shard to validate on.
    pub val: ShardMeta,
    /// Where the documents are from, in order.
    pub sources: Vec<SourceMeta>,
    /// What was chosen out of them, and how.
    pub filters: FilterMeta,
    /// Documents found; each is in a shard or removed.
    pub read_documents: u64,
    /// What of them was read, in bytes.
    pub read_bytes: u64,
    /// Documents removed, by reason.
    pub removed: BTreeMap<Reason, u64>,
    /// Secrets replaced.
    pub scrubbed: Scrubbed,
}

impl Meta {
    /// The file's contents.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json =
            serde_json::to_vec_pretty(self).expect("numbers, names and finite fractions serialize");
        json.push(b'\n');
        json
    }
}

/// What was kept of one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceMeta {
    /// The input as it was typed.
    pub input: String,
    /// Documents kept.
    pub documents: u64,
    /// The length of their texts in bytes.
    pub text_bytes: u64,
}

/// What was chosen out of the documents, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterMeta {
    /// The named filters.
    pub recipe: Recipe,
    /// Kinds of files taken out of folders; empty for every kind.
    pub kinds: Vec<FileKind>,
    /// Sizes of documents taken.
    pub sizes: SizeLimits,
    /// Which copies were removed.
    pub dedup: Dedup,
    /// Whether secrets were replaced.
    pub scrub_secrets: bool,
    /// The field or column of the text in records.
    pub text_field: String,
    /// What was done about text that is not UTF-8.
    pub invalid_utf8: OnInvalidUtf8,
    /// Longer files were cut.
    pub max_document_bytes: usize,
}

/// What one shard holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardMeta {
    /// Ids, the end-of-text tokens among them.
    pub tokens: u64,
    /// Documents, or parts of documents where the split cut them.
    pub documents: u64,
    /// Length of their texts as UTF-8, in bytes.
    pub text_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// SHA-256 of the index of its documents.
    pub documents_sha256: String,
}

/// How a shard stores an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenDtype {
    /// Two bytes, little-endian.
    U16,
    /// Four bytes, little-endian.
    U32,
}

impl TokenDtype {
    /// The smallest that holds every id below `vocab_size`.
    pub fn for_vocab_size(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    /// Ids as they lie in a file.
    ///
    /// # Panics
    /// If an id does not fit.
    pub(crate) fn encode(self, ids: impl Iterator<Item = u32>) -> Vec<u8> {
        match self {
            Self::U16 => ids
                .flat_map(|id| u16::try_from(id).expect("ids are below a vocabulary of 65536").to_le_bytes())
                .collect(),
            Self::U32 => ids.flat_map(u32::to_le_bytes).collect(),
        }
    }

    /// Size of an id in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }
}

/// Shown as in `meta.json`.
impl fmt::Display for TokenDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U16 => "u16",
            Self::U32 => "u32",
        })
    }
}
