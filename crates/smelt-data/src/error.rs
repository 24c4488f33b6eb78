//! What can go wrong between files and batches.

use std::io;
use std::path::{Path, PathBuf};

use smelt_text::TextError;

use crate::{InstructionReport, RecordKind, Removed, TokenDtype};

/// Failure to read, prepare or open data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read or written; what was there before is untouched.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// A verb such as `read`.
        action: &'static str,
        /// The file or folder meant.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The inputs hold no text.
    #[error("no documents in {inputs} (removed: {removed}{})", removed.first_example())]
    NoDocuments {
        /// The inputs, each in backticks.
        inputs: String,
        /// What was found instead.
        removed: Removed,
    },
    /// A line of a `.jsonl` file is not a record with a text.
    #[error("`{}` line {line}: {reason}", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// A file is cut or broken, or lacks the column of the texts.
    #[error("cannot read `{}`: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What its decoder said.
        reason: String,
    },
    /// A pattern among the inputs is none, or finds nothing.
    #[error("pattern `{pattern}`: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process prepares the same folder.
    #[error("`{}` is being prepared by another process", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The caller asked to stop.
    #[error("stopped; what was done is kept")]
    Interrupted,
    /// An option has a value that cannot be.
    #[error("`{name}` is {value}, expected {expected}")]
    InvalidOption {
        /// Name of the option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The tokenizer failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The folder was never prepared, or its preparation was cut short.
    #[error("`{}` is not a prepared data folder: it has no `meta.json`", folder.display())]
    NotPrepared {
        /// The folder.
        folder: PathBuf,
    },
    /// `meta.json` cannot be understood.
    #[error("cannot parse `{}`", path.display())]
    BadMeta {
        /// The file.
        path: PathBuf,
        /// Where parsing stopped.
        source: serde_json::Error,
    },
    /// A file does not agree with `meta.json`.
    #[error("`{}` has {what} {found}, `meta.json` expects {expected}", path.display())]
    Disagrees {
        /// The file that was checked.
        path: PathBuf,
        /// What was compared.
        what: &'static str,
        /// What `meta.json` says.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// `meta.json` is of a layout that this program does not know.
    #[error("`{}` has version {found}, expected {expected}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version known here.
        expected: u32,
        /// The version in the file.
        found: String,
    },
    /// `meta.json` names a dtype that its vocabulary does not call for.
    #[error("`{}` has dtype {found}, `vocab_size` {vocab_size} needs {expected}", path.display())]
    WrongDtype {
        /// The file.
        path: PathBuf,
        /// What the vocabulary needs.
        expected: TokenDtype,
        /// What the file says.
        found: TokenDtype,
        /// The vocabulary size in the file.
        vocab_size: usize,
    },
    /// A shard ends within an id.
    #[error("`{}` has {bytes} bytes, expected a multiple of {} for ids of {dtype}", path.display(), dtype.bytes())]
    PartialToken {
        /// The shard.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// How ids are stored.
        dtype: TokenDtype,
    },
    /// A shard holds an id that the tokenizer does not have.
    #[error("`{}` has id {id} at token {position}, expected ids below `vocab_size` {vocab_size}", path.display())]
    IdOutOfRange {
        /// The shard.
        path: PathBuf,
        /// Index of the first such token.
        position: usize,
        /// The id found.
        id: u32,
        /// Ids must be below it.
        vocab_size: usize,
    },
    /// The index of a shard's documents does not fit the shard.
    #[error("`{}` {reason}", path.display())]
    BadDocumentIndex {
        /// The index.
        path: PathBuf,
        /// What it has and what was expected.
        reason: String,
    },
    /// A shard is too short for one training window.
    #[error("`{}` has {found} tokens, expected at least {needed} (`seq_length` {seq_length} and one more)", path.display())]
    TooFewTokens {
        /// The shard.
        path: PathBuf,
        /// Tokens in it.
        found: usize,
        /// The fewest that do.
        needed: usize,
        /// Tokens per row of a batch.
        seq_length: usize,
    },
    /// No document of a shard leaves anything to predict.
    #[error("`{}` holds no document of two tokens or more", path.display())]
    NothingToPredict {
        /// The shard.
        path: PathBuf,
    },
    /// Sources that were to be mixed do not fit each other, or one has an impossible weight.
    #[error("cannot mix data: {reason}")]
    BadMixture {
        /// What was expected and what was found.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for {purpose}")]
    Thread {
        /// What it was to do.
        purpose: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file of instruction data gives no example.
    #[error("no examples in `{}` ({report})", path.display())]
    NoExamples {
        /// The file.
        path: PathBuf,
        /// What became of its records.
        report: Box<InstructionReport>,
    },
    /// The loss is to be taken on completions, and the records have none.
    #[error("`{}` has records of `text`, which do not tell a completion from its prompt", path.display())]
    NoCompletions {
        /// The file.
        path: PathBuf,
    },
    /// Preferences were expected.
    #[error("`{}` has records of {found}, expected `prompt`, `chosen`, `rejected`", path.display())]
    NoPreferences {
        /// The file.
        path: PathBuf,
        /// What its records are.
        found: RecordKind,
    },
}

impl DataError {
    pub(crate) fn io<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Self + use<'p> {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
