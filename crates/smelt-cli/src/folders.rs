//! Where things lie in the folder of a run, and which model a path means.
//!
//! `RUN/run.yaml` is the config, `RUN/data` the tokenized corpus, `RUN/checkpoints` the model folders.

use std::fs;
use std::path::{Path, PathBuf};

use smelt_model::CONFIG_FILE;
use smelt_train::Checkpoints;

use crate::error::CliError;

/// The resolved config of a run.
pub const RUN_CONFIG: &str = "run.yaml";
/// The tokenized corpus of a run.
pub const DATA: &str = "data";

/// The model folder that `path` means: itself, or the newest checkpoint of a run.
///
/// # Errors
/// [`CliError::NoModel`] if it is neither, [`CliError::Io`] if there is no such folder.
pub fn model_folder(path: &Path) -> Result<PathBuf, CliError> {
    if path.join(CONFIG_FILE).is_file() {
        return Ok(path.to_owned());
    }
    fs::read_dir(path).map_err(|source| CliError::Io { action: "read", path: path.to_owned(), source })?;
    Checkpoints::new(path, Vec::new()).newest().ok_or_else(|| CliError::NoModel { folder: path.to_owned() })
}
