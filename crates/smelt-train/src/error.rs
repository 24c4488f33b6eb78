//! What can go wrong in training.

use std::io;
use std::path::{Path, PathBuf};

use smelt_data::DataError;
use smelt_model::ModelError;

/// An error of training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Reading or writing a model or a tensor file failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Reading data failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file or folder of the run could not be read or written.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The trainer's state is not what this version writes.
    #[error("cannot read the training state `{}`", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// The checkpoint was made with another setting.
    #[error("the checkpoint `{}` was trained with `{key}` {saved}, this run has {now}", .checkpoint.display())]
    Conflict {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The setting.
        key: String,
        /// Its value in the checkpoint.
        saved: String,
        /// Its value now.
        now: String,
    },
    /// The optimizer's state does not fit the model.
    #[error("the optimizer state `{}` does not fit the model: {problem}", .path.display())]
    OptimizerMismatch {
        /// The file.
        path: PathBuf,
        /// The first tensor that is missing, unexpected or mis-shaped.
        problem: String,
    },
    /// A loss or gradient became infinite or undefined.
    #[error("step {step}: {what} is not finite ({value})")]
    NonFinite {
        /// The optimizer step, from 1.
        step: u64,
        /// The loss, or the gradient of a tensor by name.
        what: String,
        /// The value.
        value: f64,
    },
    /// The backward pass never reached a parameter.
    #[error("parameter `{name}` got no gradient")]
    NoGradient {
        /// The parameter's name in the checkpoint.
        name: String,
    },
    /// No position of a step counts.
    #[error("step {step}: every token of the batch is masked")]
    NothingToLearn {
        /// The optimizer step, from 1.
        step: u64,
    },
    /// There is nothing to validate on.
    #[error("`{key}` judges by the validation loss, and there is nothing to validate on")]
    NothingToValidate {
        /// The setting.
        key: &'static str,
    },
    /// A sequence is longer than the model's context.
    #[error("`seq_length` is {seq_length}, the model's context `{key}` is {context}")]
    TooLong {
        /// Tokens per sequence.
        seq_length: usize,
        /// Name of the setting of the model.
        key: &'static str,
        /// Its value.
        context: usize,
    },
}

impl TrainError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
