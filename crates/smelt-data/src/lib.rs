//! Data of smelt: from files to token shards to batches, on the host alone.
//!
//! `corpus` reads documents, `sift` chooses among them, `prepared` turns them into a folder of token
//! shards, `instruct` makes examples of conversations, `batch` draws batches from shards and examples, `hub`
//! downloads. Names no tensor: batches are host arrays, and the trainer uploads them.

mod batch;
mod corpus;
mod error;
pub mod hub;
mod instruct;
mod prepared;
mod seed;
mod sift;

pub use batch::{
    BatchSource, EvalBatches, EvalLimit, Mixture, PackedDocuments, Passage, Permutation, Prefetch, RowSource,
    Sampler, TokenBatch, Windows,
};
pub use corpus::{FileKind, Input, OnBadLine, OnInvalidUtf8, ReadOptions, Reason, Removal, Removed, Step};
pub use error::DataError;
pub use instruct::{
    BucketedBatches, Examples, InstructionFolder, InstructionOptions, InstructionReport, LossOn, OnBadRecord,
    PackedExamples, PromptFormat, RecordKind, TEST_RECORDS, TRAIN_RECORDS, VALID_RECORDS, bucket_lengths,
};
pub use prepared::{
    Bucket, DocumentIndex, FilterMeta, FolderCheck, InputTally, Lengths, META_FILE, META_VERSION, Meta,
    Preparation, PrepareOptions, PrepareProgress, Prepared, ShardMeta, ShardStatistics, SourceMeta,
    SplitRule, StageDurations, Statistics, TRAIN_DOCUMENTS_FILE, TRAIN_FILE, Tally, TokenDtype, TokenShard,
    VAL_DOCUMENTS_FILE, VAL_FILE, prepare, verify_folder,
};
pub use seed::{derive_seed, mix};
pub use sift::{Dedup, Recipe, Scrubbed, SizeLimits};
