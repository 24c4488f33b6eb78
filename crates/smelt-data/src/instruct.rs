//! Instruction data: records of a folder to token sequences that know what is to be learnt, to batches.
//!
//! A folder holds `train.jsonl`, and `valid.jsonl` and `test.jsonl` if it likes. Each file has records of
//! one kind, told by its first record. Records are rendered and tokenized once, whole; what counts is told
//! by the places of the assistant's words in the text, so that a template may render a conversation
//! differently from its beginning.

mod buckets;
mod encode;
mod examples;
mod folder;
mod lines;
mod packed;
mod record;
mod report;

pub use buckets::{BucketedBatches, bucket_lengths};
pub use encode::{InstructionOptions, LossOn, OnBadRecord, PromptFormat};
pub use examples::Examples;
pub use folder::{InstructionFolder, TEST_RECORDS, TRAIN_RECORDS, VALID_RECORDS};
pub use packed::PackedExamples;
pub use record::RecordKind;
pub use report::InstructionReport;
