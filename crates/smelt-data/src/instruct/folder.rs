//! The files of an instruction folder.

use std::path::Path;

use smelt_text::{ChatTemplate, Tokenizer};

use super::{Examples, InstructionOptions};
use crate::DataError;

/// Records to train on.
pub const TRAIN_RECORDS: &str = "train.jsonl";
/// Records to validate on.
pub const VALID_RECORDS: &str = "valid.jsonl";
/// Records to test on.
pub const TEST_RECORDS: &str = "test.jsonl";

/// The examples of an instruction folder.
#[derive(Debug, Clone)]
pub struct InstructionFolder {
    /// What to train on.
    pub train: Examples,
    /// What to validate on, if the folder has it.
    pub valid: Option<Examples>,
    /// What to test on, if the folder has it.
    pub test: Option<Examples>,
}

impl InstructionFolder {
    /// Whether `folder` has a `train.jsonl`.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(TRAIN_RECORDS).is_file()
    }

    /// Reads the files of `folder` and makes examples of their records.
    ///
    /// # Errors
    /// As [`Examples::read`], of any of the files.
    pub fn open(
        folder: &Path,
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        options: &InstructionOptions,
    ) -> Result<Self, DataError> {
        let read = |name| Examples::read(&folder.join(name), tokenizer, template, options);
        let read_optional = |name| if folder.join(name).exists() { read(name).map(Some) } else { Ok(None) };
        Ok(Self {
            train: read(TRAIN_RECORDS)?,
            valid: read_optional(VALID_RECORDS)?,
            test: read_optional(TEST_RECORDS)?,
        })
    }
}
