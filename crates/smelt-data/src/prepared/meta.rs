//! `meta.json`: what the other files of a prepared folder hold.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SplitRule;

/// Name of the file that describes a prepared folder; written last.
pub const META_FILE: &str = "meta.json";
/// Name of the shard to train on.
pub const TRAIN_FILE: &str = "train.bin";
/// Name of the shard to validate on.
pub const VAL_FILE: &str = "val.bin";
/// Version of the folder's layout.
pub const META_VERSION: u32 = 1;

/// The contents of `meta.json`. Equal inputs and options give equal files: it holds no time and no path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Version of the layout, [`META_VERSION`].
    pub version: u32,
    /// Every id in the shards is below it.
    pub vocab_size: usize,
    /// How the shards store an id.
    pub dtype: TokenDtype,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_sha256: String,
    /// The id after every document.
    pub end_of_text: u32,
    /// Share of the corpus held out for validation.
    pub val_fraction: f64,
    /// Seed of the split.
    pub seed: u64,
    /// How the corpus was split.
    pub split: SplitRule,
    /// The shard to train on.
    pub train: ShardMeta,
    /// The shard to validate on.
    pub val: ShardMeta,
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
