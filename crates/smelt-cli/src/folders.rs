//! Where things lie in the folder of a run, and which model a path means.
//!
//! `RUN/run.yaml` is the config, `RUN/data` the tokenized corpus, `RUN/tokenizer` a tokenizer that was unpacked,
//! `RUN/checkpoints` the model folders, `RUN/metrics.jsonl` and `RUN/tensorboard` what was measured.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use smelt_convert::gguf::{GgufModel, is_gguf};
use smelt_model::CONFIG_FILE;
use smelt_model::weights::write_atomic;
use smelt_text::{CHAT_TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use smelt_train::{AVERAGE, CHECKPOINTS, Checkpoints, METRICS_FILE, TENSORBOARD};

use crate::config::RunConfig;
use crate::error::CliError;

/// The resolved config of a run.
pub const RUN_CONFIG: &str = "run.yaml";
/// The tokenized corpus of a run.
pub const DATA: &str = "data";
/// The tokenizer of a run whose model brings it within a file.
const TOKENIZER: &str = "tokenizer";
/// The spans of a run that was profiled.
pub const TRACE: &str = "trace.json";
/// The page about a run.
pub const REPORT: &str = "report.html";

/// What belongs to a tokenizer in the folder of a model.
const TOKENIZER_FILES: [&str; 7] = [
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    CHAT_TEMPLATE_FILE,
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// The model that `path` means: itself if it is a model folder or a GGUF file, or the best checkpoint of a run that keeps it, or the newest one.
/// Of a checkpoint with a moving average of its weights, a run stands for the average.
///
/// # Errors
/// [`CliError::NoModel`] if it is neither, [`CliError::Io`] if there is no such folder.
pub fn model_folder(path: &Path) -> Result<PathBuf, CliError> {
    if path.join(CONFIG_FILE).is_file() || is_gguf(path) {
        return Ok(path.to_owned());
    }
    fs::read_dir(path).map_err(|source| CliError::Io { action: "read", path: path.to_owned(), source })?;
    let checkpoints = Checkpoints::new(path, Vec::new());
    let checkpoint = checkpoints.best().or_else(|| checkpoints.newest());
    let checkpoint = checkpoint.ok_or_else(|| CliError::NoModel { folder: path.to_owned() })?;
    Ok(deployed(checkpoint))
}

/// What a checkpoint is for: the average of its weights, where there is one.
pub fn deployed(checkpoint: PathBuf) -> PathBuf {
    let average = checkpoint.join(AVERAGE);
    if average.is_dir() { average } else { checkpoint }
}

/// Bytes of the file at `path`, or of all files in the folder.
///
/// # Errors
/// [`CliError::Io`] if it cannot be read.
pub fn size_bytes(path: &Path) -> Result<u64, CliError> {
    let failed = |source| CliError::Io { action: "read", path: path.to_owned(), source };
    if path.is_file() {
        return Ok(path.metadata().map_err(failed)?.len());
    }
    let mut total = 0;
    for entry in fs::read_dir(path).map_err(failed)? {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(failed)?;
        total += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(total)
}

/// Copies what belongs to the tokenizer in `from`.
///
/// # Errors
/// [`CliError::Io`] with what could not be copied.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), CliError> {
    if is_gguf(from) {
        return Ok(GgufModel::open(from)?.companions()?.write(to)?);
    }
    for name in TOKENIZER_FILES {
        let file = from.join(name);
        if file.is_file() {
            fs::copy(&file, to.join(name)).map_err(|source| CliError::Io {
                action: "copy",
                path: file,
                source,
            })?;
        }
    }
    Ok(())
}

/// The files of the tokenizer in `model`, for the checkpoints of `run`: where they lie, or unpacked into the folder of the
/// run from a GGUF file.
///
/// # Errors
/// [`CliError`] if they cannot be unpacked.
pub fn tokenizer_files(model: &Path, run: &Path) -> Result<Vec<PathBuf>, CliError> {
    let unpacked = run.join(TOKENIZER);
    let folder = if is_gguf(model) {
        copy_tokenizer(model, &unpacked)?;
        &unpacked
    } else {
        model
    };
    Ok(TOKENIZER_FILES.map(|name| folder.join(name)).into_iter().filter(|path| path.is_file()).collect())
}

/// Deletes what a run writes, and nothing else that may lie in its folder; keeps the folder `data`.
///
/// # Errors
/// [`CliError::Io`] with what could not be deleted.
pub fn remove_run(run: &Path, data: &Path) -> Result<(), CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Io { action: "delete", path, source }
    };
    for folder in [CHECKPOINTS, DATA, TENSORBOARD, TOKENIZER].map(|name| run.join(name)) {
        if folder != data && folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
    }
    for file in [RUN_CONFIG, METRICS_FILE, TRACE, REPORT].map(|name| run.join(name)) {
        if file.exists() {
            fs::remove_file(&file).map_err(failed(&file))?;
        }
    }
    Ok(())
}

/// Keeps the config of a run in its folder, for those who continue or repeat it.
///
/// # Errors
/// [`CliError::Io`] if the folder cannot be made or written.
pub fn write_run_config(config: &RunConfig, run: &Path) -> Result<(), CliError> {
    fs::create_dir_all(run).map_err(|source| CliError::Io {
        action: "create",
        path: run.to_owned(),
        source,
    })?;
    let path = run.join(RUN_CONFIG);
    let text = config.to_yaml();
    write_atomic(&path, |file| file.write_all(text.as_bytes())).map_err(|source| CliError::Io {
        action: "write",
        path,
        source,
    })
}
