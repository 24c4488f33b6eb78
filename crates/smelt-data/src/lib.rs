//! Data of smelt: from files to token shards to batches, on the host alone.
//!
//! `corpus` reads documents, `prepared` turns them into a folder of token shards, `instruct` makes examples
//! of conversations, `batch` draws batches from shards and examples, `hub` downloads. Names no tensor: batches
//! are host arrays, and the trainer uploads them.

mod batch;
mod corpus;
mod error;
pub mod hub;
mod instruct;
mod prepared;
mod seed;

pub use batch::{
    BatchSource, EvalBatches, EvalLimit, Mixture, PackedDocuments, Passage, Permutation, Prefetch, RowSource,
    Sampler, TokenBatch, Windows,
};
pub use corpus::{
    Corpus, Document, FileKind, OnBadLine, OnInvalidUtf8, ReadOptions, SkipReason, Skipped, read_documents,
};
pub use error::DataError;
pub use instruct::{
    BucketedBatches, Examples, InstructionFolder, InstructionOptions, InstructionReport, LossOn, OnBadRecord,
    PackedExamples, PromptFormat, RecordKind, TEST_RECORDS, TRAIN_RECORDS, VALID_RECORDS, bucket_lengths,
};
pub use prepared::{
    DocumentIndex, META_FILE, META_VERSION, Meta, PrepareOptions, PrepareProgress, Prepared, ShardMeta,
    SplitRule, TRAIN_FILE, TokenDtype, TokenShard, VAL_FILE, prepare,
};
pub use seed::{derive_seed, mix};
