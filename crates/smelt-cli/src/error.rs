//! Everything that can end a command, with the way out and the exit code.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use smelt_backend::{BackendError, in_build};
use smelt_data::DataError;
use smelt_generate::GenerateError;
use smelt_model::ModelError;
use smelt_text::TextError;
use smelt_train::TrainError;

use crate::config::ConfigError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The run config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No backend can serve.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A tokenizer failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A model cannot be read or written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data cannot be read, prepared or opened.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A prompt or a sampling option does not fit.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A tensor of an input file is not what the command reads.
    #[error("tensor `{name}` has {found}, expected whole numbers of 0 or more in shape [batch, seq]")]
    BadTensor {
        /// Its name.
        name: String,
        /// What it has.
        found: String,
    },
    /// More tokens than the model can see.
    #[error("{tokens} tokens do not fit the model's context of {context}")]
    TooLong {
        /// How many there are.
        tokens: usize,
        /// How many fit.
        context: usize,
    },
    /// The tokenizer has ids that the model does not.
    #[error("the tokenizer has {tokenizer} tokens, the model has a vocabulary of {model}")]
    VocabularyTooSmall {
        /// Of the model.
        model: usize,
        /// Of the tokenizer.
        tokenizer: usize,
    },
    /// A JSON file does not parse.
    #[error("cannot parse `{}`", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Flags that do not fit each other.
    #[error("{message}")]
    Usage {
        /// What does not fit.
        message: String,
        /// The way out.
        hint: String,
    },
    /// The folder already holds a run.
    #[error("`{}` already holds a run", folder.display())]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// There is nothing to load.
    #[error("no model in `{}`: expected {expected}", folder.display())]
    NoModel {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        expected: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// A verb such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Some checks of `verify` or `doctor` failed; the rows say which.
    #[error("{failed} of {total} checks failed")]
    ChecksFailed {
        /// How many failed.
        failed: usize,
        /// Out of how many.
        total: usize,
    },
    /// Ctrl-C.
    #[error("stopped by Ctrl-C")]
    Interrupted {
        /// How to go on.
        hint: Option<String>,
    },
    /// The reader of stdout went away (`smelt ... | head`): no failure, but the end.
    #[error("nobody reads the output")]
    OutputClosed,
    /// stdout cannot be written.
    #[error("cannot write the output")]
    Stdout {
        /// What the system said.
        source: io::Error,
    },
}

impl CliError {
    /// 0 done, 1 failed, 2 wrong usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Config(ConfigError::Read { .. }) => 1,
            Self::Config(_) | Self::Usage { .. } | Self::Generate(GenerateError::BadOption { .. }) => 2,
            _ => 1,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Backend(error) => hint_for_backend(error),
            Self::Train(error) => hint_for_training(error).or_else(|| io_kind(self).and_then(hint_for_io)),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::RunExists { .. } => Some(
                "continue it with `--resume auto`, keep it with another `--output`, or replace it with `--overwrite`"
                    .to_owned(),
            ),
            Self::NoModel { .. } => Some("train one with `smelt train`, or give another `--model`".to_owned()),
            Self::VocabularyTooSmall { tokenizer, .. } => Some(format!(
                "set `--set model.vocab_size={tokenizer}`, or with `--model` use data of that model's own tokenizer"
            )),
            Self::Interrupted { hint } => hint.clone(),
            other => io_kind(other).and_then(hint_for_io),
        }
    }
}

fn hint_for_backend(error: &BackendError) -> Option<String> {
    let hint = match error {
        BackendError::UnknownName { .. } => "`smelt backends` lists them".to_owned(),
        BackendError::NotInBuild { name } => {
            let others = in_build().into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" or ");
            format!("rebuild with `cargo run --release --features {name} -- ...`, or use {others}")
        }
        BackendError::Unusable { .. } => {
            "`smelt backends` shows what works here; `auto` falls back".to_owned()
        }
        BackendError::NoneLeft { .. } => {
            "`smelt doctor` shows more; a smaller model or batch needs less memory".to_owned()
        }
    };
    Some(hint)
}

fn hint_for_training(error: &TrainError) -> Option<String> {
    let hint = match error {
        TrainError::Conflict { key, saved, .. } if !saved.starts_with('{') => {
            format!("continue with `{key}` {saved}, or start anew with another `--output`")
        }
        TrainError::Conflict { .. } => "a run continues on the same model and data; start anew with another `--output`".to_owned(),
        TrainError::NonFinite { .. } => {
            "a lower `--learning-rate` or a longer `--warmup-steps` helps; `--resume auto` continues before it".to_owned()
        }
        TrainError::State { .. } | TrainError::OptimizerMismatch { .. } => {
            "resume from an older checkpoint with `--resume RUN/checkpoints/step-N`".to_owned()
        }
        _ => return None,
    };
    Some(hint)
}

/// The first system error in the chain.
fn io_kind(error: &CliError) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = current.source();
    }
    None
}

fn hint_for_io(kind: io::ErrorKind) -> Option<String> {
    let hint = match kind {
        io::ErrorKind::NotFound => "check the path; it is taken from the current folder",
        io::ErrorKind::PermissionDenied => "check who may read or write it, or choose another folder",
        io::ErrorKind::ReadOnlyFilesystem => "the disk is mounted read-only; choose another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; what was saved before is intact. Free some space and continue with `--resume auto`"
        }
        io::ErrorKind::NotADirectory => "a file stands where a folder is expected",
        io::ErrorKind::IsADirectory => "a folder stands where a file is expected",
        _ => return None,
    };
    Some(hint.to_owned())
}
