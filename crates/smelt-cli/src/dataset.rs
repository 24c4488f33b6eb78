//! What a run trains on: the embedded corpus, files of the user, or a folder that was prepared before.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smelt_data::{
    DataError, Dedup, Input, InstructionFolder, META_FILE, PrepareOptions, PrepareProgress, Prepared, prepare,
};
use smelt_model::ModelConfig;

use crate::config::RunConfig;
use crate::error::CliError;
use crate::folders::{DATA, model_folder};
use crate::instructions::Instructions;
use crate::quickstart;
use crate::run_data::RunData;
use crate::training::TrainEvent;

/// Where the data of a run comes from; nothing was written yet.
pub enum Source {
    /// A folder with `train.jsonl`.
    Instructions(PathBuf),
    /// Tokenized before.
    Prepared(Box<Prepared>),
    /// Documents to read and tokenize.
    Documents(Vec<Input>),
}

/// Finds the data of a run: that of `checkpoint` as it lies in the folder of the run, or else documents.
///
/// # Errors
/// [`CliError`] if there is no data, it cannot be read, or it was prepared with other settings.
pub fn find_data(config: &RunConfig, run: &Path, checkpoint: Option<&Path>) -> Result<Source, CliError> {
    if let [folder] = config.data.paths.as_slice()
        && folder.join(META_FILE).is_file()
    {
        return Ok(Source::Prepared(Box::new(Prepared::open(folder)?)));
    }
    if let [folder] = config.data.paths.as_slice()
        && InstructionFolder::is_at(folder)
    {
        return Ok(Source::Instructions(folder.clone()));
    }
    let folder = run.join(DATA);
    if checkpoint.is_some() && folder.join(META_FILE).is_file() {
        return reopen(config, &folder).map(|prepared| Source::Prepared(Box::new(prepared)));
    }
    inputs(config).map(Source::Documents)
}

/// Tokenizes documents into the folder of the run, and instruction data in memory; what was prepared stays
/// where it is.
///
/// # Errors
/// [`CliError`] if the folder cannot be written, or the documents are too few.
pub fn prepare_data(
    source: Source,
    config: &RunConfig,
    run: &Path,
    model: &ModelConfig,
    on_event: &mut dyn FnMut(TrainEvent<'_>) -> ControlFlow<()>,
) -> Result<RunData, CliError> {
    let inputs = match source {
        Source::Prepared(prepared) => return Ok(RunData::Text(prepared)),
        Source::Instructions(folder) => {
            let tokenizer = tokenizer(config)?.ok_or_else(|| CliError::Usage {
                message: "instruction data needs the tokenizer of a model".to_owned(),
                hint:
                    "start from one with `--model DIR`, or name a tokenizer with `--set data.tokenizer=DIR`"
                        .to_owned(),
            })?;
            let read = Instructions::read(&folder, tokenizer, config)?;
            let _ = on_event(TrainEvent::Instructed(read.folder.train.report()));
            return Ok(RunData::Instructions(Box::new(read)));
        }
        Source::Documents(inputs) => inputs,
    };
    let options = PrepareOptions {
        dedup: Dedup::Exact,
        vocab_size: model.decoder.vocab_size,
        tokenizer: tokenizer(config)?,
        val_fraction: config.data.val_split,
        seed: config.train.seed,
        ..PrepareOptions::default()
    };
    let tell = &mut |progress: PrepareProgress<'_>| on_event(TrainEvent::Preparing(progress));
    match prepare(&inputs, &run.join(DATA), &options, tell) {
        Ok(done) => Ok(RunData::Text(Box::new(done.prepared))),
        Err(DataError::Interrupted) => Err(CliError::Interrupted {
            hint: Some("the same command goes on where this one stopped".to_owned()),
        }),
        Err(error) => Err(error.into()),
    }
}

fn reopen(config: &RunConfig, folder: &Path) -> Result<Prepared, CliError> {
    let prepared = Prepared::open(folder)?;
    let settings = [
        ("val_split", prepared.meta.val_fraction.to_string(), config.data.val_split.to_string()),
        ("seed", prepared.meta.seed.to_string(), config.train.seed.to_string()),
    ];
    match settings.into_iter().find(|(_, before, now)| before != now) {
        None => Ok(prepared),
        Some((key, before, now)) => Err(CliError::Usage {
            message: format!("`{}` was prepared with `{key}` {before}, this run has {now}", folder.display()),
            hint: format!("continue with `{key}` {before}, or start anew with another `--output`"),
        }),
    }
}

fn inputs(config: &RunConfig) -> Result<Vec<Input>, CliError> {
    let data = &config.data;
    if data.embedded {
        let documents = quickstart::documents().into_iter();
        return Ok(documents.map(|(source, text)| Input::Text { source, text: text.to_owned() }).collect());
    }
    if data.paths.is_empty() {
        return Err(CliError::Usage {
            message: "there is nothing to train on: `data.paths` is empty".to_owned(),
            hint: "give files or folders of text with `--data PATH...`".to_owned(),
        });
    }
    Ok(data.paths.iter().map(|path| Input::from_typed(path)).collect())
}

/// The tokenizer to reuse: the one that was asked for, or that of the model to start from.
fn tokenizer(config: &RunConfig) -> Result<Option<PathBuf>, CliError> {
    match (&config.data.tokenizer, &config.model.path) {
        (Some(path), _) => Ok(Some(path.clone())),
        (None, Some(model)) => model_folder(model).map(Some),
        (None, None) => Ok(None),
    }
}
