//! What can go wrong between two formats.

use std::io;
use std::path::{Path, PathBuf};

use smelt_model::ModelError;
use smelt_text::TextError;

/// Errors of reading and writing foreign formats.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried: `read`, `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A file is damaged or lies about itself.
    #[error("`{path}` is not a valid GGUF file")]
    BadGguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Damage,
    },
    /// A file describes a model that smelt does not know.
    #[error("architecture `{found}` is not supported (available: {available})")]
    UnknownArchitecture {
        /// `general.architecture`.
        found: String,
        /// All known ones.
        available: String,
    },
    /// A file's metadata lack a key or have a value that does not fit.
    #[error("`{key}` is {found} in the metadata, expected {expected}")]
    BadMetadata {
        /// The key.
        key: String,
        /// The value, or `missing`.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// A format has no way to say what a model is.
    #[error("{format} cannot hold this model: {reason}")]
    Inexpressible {
        /// The format.
        format: &'static str,
        /// What it cannot hold.
        reason: String,
    },
    /// A weight does not fit the dtype asked for.
    #[error("tensor `{name}` holds {value} at index {index}, which {dtype} cannot hold")]
    OutOfRange {
        /// The tensor.
        name: String,
        /// Index of the first such value, row-major.
        index: usize,
        /// The value.
        value: f32,
        /// The dtype asked for.
        dtype: &'static str,
    },
    /// The output is there already.
    #[error("`{path}` already holds a model")]
    OutputExists {
        /// The folder or file.
        path: PathBuf,
    },
    /// A file would be written where there is one.
    #[error("`{path}` is there already")]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// Fewer bytes were asked for than a model takes in the fewest bits.
    #[error("the weights take {smallest} bytes with 2 bits for every module, {most_bytes} were asked for")]
    TooSmall {
        /// What was asked for.
        most_bytes: u64,
        /// The least there is.
        smallest: u64,
    },
    /// Whoever watches asked to stop; nothing was written.
    #[error("stopped before it was done")]
    Interrupted,
    /// A configuration or weights do not fit.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tokenizer does not fit.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// What is wrong with a file, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub(crate) String);

impl ConvertError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn bad_gguf(path: &Path) -> impl FnOnce(String) -> Self {
        let path = path.to_path_buf();
        move |reason| Self::BadGguf { path, reason: Damage(reason) }
    }
}
