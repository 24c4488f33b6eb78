//! Where things lie in the folder of a run, and which model a path means.
//!
//! `RUN/run.yaml` is the config, `RUN/data` the tokenized corpus, `RUN/checkpoints` the model folders.

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
/// [`CliError::NoModel`] if it is neither.
pub fn model_folder(path: &Path) -> Result<PathBuf, CliError> {
    if path.join(CONFIG_FILE).is_file() {
        return Ok(path.to_owned());
    }
    Checkpoints::new(path, Vec::new()).newest().ok_or_else(|| {
        let expected = match path.is_dir() {
            true => "`config.json`, or `checkpoints/` of a run",
            false => "a folder",
        };
        CliError::NoModel { folder: path.to_owned(), expected: expected.to_owned() }
    })
}
