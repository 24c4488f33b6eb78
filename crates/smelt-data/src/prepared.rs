//! A prepared data folder: `tokenizer.json`, `train.bin`, `val.bin` and the `meta.json` that ties them.
//!
//! The shards are token ids one after the other, little-endian u16 or u32, as nanoGPT reads them.

mod documents;
mod meta;
mod open;
mod prepare;
mod shard;
mod split;

pub use documents::DocumentIndex;
pub use meta::{META_FILE, META_VERSION, Meta, ShardMeta, TRAIN_FILE, TokenDtype, VAL_FILE};
pub use open::Prepared;
pub use prepare::{PrepareOptions, PrepareProgress, prepare};
pub use shard::TokenShard;
pub use split::SplitRule;
