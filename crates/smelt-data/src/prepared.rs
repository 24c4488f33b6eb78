//! A prepared data folder: `tokenizer.json`, `train.bin`, `val.bin`, the indexes of their documents, and
//! the `meta.json` that ties them.
//!
//! The shards are token ids one after the other, little-endian u16 or u32, as nanoGPT reads them. An
//! index is little-endian u64: the token at which each document begins, and the number of tokens.

mod assemble;
mod documents;
mod gather;
mod meta;
mod open;
mod prepare;
mod segment;
mod shard;
mod split;
mod stages;
mod statistics;
mod tally;
mod tokenize;
mod verify;
mod work;

pub use documents::DocumentIndex;
pub use meta::{
    FilterMeta, META_FILE, META_VERSION, Meta, ShardMeta, SourceMeta, TRAIN_DOCUMENTS_FILE, TRAIN_FILE,
    TokenDtype, VAL_DOCUMENTS_FILE, VAL_FILE,
};
pub use open::Prepared;
pub use prepare::{Preparation, PrepareOptions, PrepareProgress, StageDurations, prepare};
pub use shard::TokenShard;
pub use split::SplitRule;
pub use statistics::{Bucket, Lengths, ShardStatistics, Statistics};
pub use tally::{InputTally, Tally};
pub use verify::{FolderCheck, verify_folder};
