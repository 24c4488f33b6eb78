//! Everything that can end a command, and its exit code; `hint` knows the way out.

use std::io;
use std::path::PathBuf;

use smelt_backend::BackendError;
use smelt_convert::ConvertError;
use smelt_data::DataError;
use smelt_data::hub::HubError;
use smelt_generate::GenerateError;
use smelt_model::ModelError;
use smelt_serve::ServeError;
use smelt_text::TextError;
use smelt_train::TrainError;

use crate::config::ConfigError;
use crate::quantity::bytes;

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
    /// A foreign format cannot be read or written.
    #[error(transparent)]
    Convert(ConvertError),
    /// A model brings no tokenizer.
    #[error("`{}` has no tokenizer", path.display())]
    NoTokenizer {
        /// The model.
        path: PathBuf,
    },
    /// The data cannot be read, prepared or opened.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A hub cannot be reached, or does not have what was asked for.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// What was given is no folder, and no repository that can be had.
    #[error("there is no folder `{}`, and it cannot be had from the hub", path.display())]
    NeitherFolderNorRepo {
        /// What was given.
        path: PathBuf,
        /// What the hub said.
        source: HubError,
    },
    /// Training would take more memory than it may.
    #[error("training needs about {}, `train.memory_limit` allows {}", bytes(*needed_bytes), bytes(*limit_bytes))]
    MemoryLimit {
        /// By estimate.
        needed_bytes: u64,
        /// As it was set.
        limit_bytes: u64,
        /// What to change.
        advice: String,
    },
    /// No backend has the memory that training would take.
    #[error("training does not fit the memory that is free")]
    MemoryLacks {
        /// What to change.
        advice: String,
        /// What selection said.
        source: Box<CliError>,
    },
    /// The device ran out of memory.
    #[error("the device is out of memory: {message}")]
    OutOfMemory {
        /// In the backend's words.
        message: String,
        /// What to change.
        advice: String,
    },
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A prompt or a sampling option does not fit.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The server cannot start.
    #[error(transparent)]
    Serve(#[from] ServeError),
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
    /// A file that should be a run's log holds no record of one.
    #[error("`{}` holds no records of a run", path.display())]
    NoRecords {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to load.
    #[error("no model in `{}`: it has neither `config.json` nor checkpoints of a run", folder.display())]
    NoModel {
        /// The folder.
        folder: PathBuf,
    },
    /// An adapter's base is not where it says.
    #[error(
        "the base of the adapter in `{}` is not here{}", adapter.display(),
        base.as_ref().map_or(String::new(), |base| format!(": `{}`", base.display()))
    )]
    NoBase {
        /// Folder of the adapter.
        adapter: PathBuf,
        /// What it says about its base.
        base: Option<PathBuf>,
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
    /// A line of a file is no prompt.
    #[error("line {line} of `{}`: {reason}", path.display())]
    BadPrompt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected, or found.
        reason: String,
    },
    /// Some prompts of a file could not be completed; their lines of the output say why.
    #[error("{failed} of {total} prompts could not be completed, `{}` says why", path.display())]
    PromptsFailed {
        /// How many.
        failed: usize,
        /// Out of how many.
        total: usize,
        /// The output.
        path: PathBuf,
    },
    /// What is typed cannot be read.
    #[error("cannot read what is typed")]
    Terminal {
        /// What the system said.
        source: rustyline::error::ReadlineError,
    },
    /// The result of a conversion computes something else than its source.
    #[error("`{}` does not compute what its source computes", output.display())]
    ConversionDiffers {
        /// The result, which is left there.
        output: PathBuf,
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

impl From<ConvertError> for CliError {
    fn from(error: ConvertError) -> Self {
        match error {
            ConvertError::Model(error) => Self::Model(error),
            ConvertError::Text(error) => Self::Text(error),
            ConvertError::Interrupted => Self::Interrupted { hint: None },
            error => Self::Convert(error),
        }
    }
}

impl CliError {
    /// 0 done, 1 failed, 2 wrong usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Config(ConfigError::Read { .. }) => 1,
            Self::Hub(HubError::BadId { .. })
            | Self::Config(_)
            | Self::Usage { .. }
            | Self::Generate(GenerateError::BadOption { .. }) => 2,
            _ => 1,
        }
    }
}
