//! What a run trains on: the embedded corpus, files of the user, or a folder that was prepared before.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smelt_data::{Corpus, META_FILE, PrepareOptions, Prepared, ReadOptions, prepare, read_documents};
use smelt_model::ModelConfig;

use crate::config::RunConfig;
use crate::error::CliError;
use crate::folders::{DATA, model_folder};
use crate::quickstart;
use crate::training::TrainEvent;

/// The data of a run, found and readable; nothing was written yet.
pub enum Source {
    /// Tokenized before.
    Prepared(Box<Prepared>),
    /// Documents to tokenize.
    Documents(Corpus),
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
    let folder = run.join(DATA);
    if checkpoint.is_some() && folder.join(META_FILE).is_file() {
        return reopen(config, &folder).map(|prepared| Source::Prepared(Box::new(prepared)));
    }
    read(config).map(Source::Documents)
}

/// Tokenizes documents into the folder of the run; what was prepared stays where it is.
///
/// # Errors
/// [`CliError`] if the folder cannot be written, or the documents are too few.
pub fn prepare_data(
    source: Source,
    config: &RunConfig,
    run: &Path,
    model: &ModelConfig,
    on_event: &mut dyn FnMut(TrainEvent<'_>) -> ControlFlow<()>,
) -> Result<Prepared, CliError> {
    let corpus = match source {
        Source::Prepared(prepared) => return Ok(*prepared),
        Source::Documents(corpus) => corpus,
    };
    let (documents, text_bytes) = (corpus.documents.len(), corpus.text_bytes());
    // Preparing is short; Ctrl-C is answered at the first step.
    let _ = on_event(TrainEvent::Read { documents, text_bytes, skipped: &corpus.skipped });
    let options = PrepareOptions {
        vocab_size: model.decoder.vocab_size,
        tokenizer: tokenizer(config)?,
        val_fraction: config.data.val_split,
        seed: config.train.seed,
    };
    Ok(prepare(&corpus, &run.join(DATA), &options, &mut |progress| {
        let _ = on_event(TrainEvent::Preparing(progress));
    })?)
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

fn read(config: &RunConfig) -> Result<Corpus, CliError> {
    let data = &config.data;
    if data.embedded {
        return Ok(Corpus::from_texts(quickstart::documents()));
    }
    if data.paths.is_empty() {
        return Err(CliError::Usage {
            message: "there is nothing to train on: `data.paths` is empty".to_owned(),
            hint: "give files or folders of text with `--data PATH...`".to_owned(),
        });
    }
    Ok(read_documents(&data.paths, &ReadOptions::default())?)
}

/// The tokenizer to reuse: the one that was asked for, or that of the model to start from.
fn tokenizer(config: &RunConfig) -> Result<Option<PathBuf>, CliError> {
    match (&config.data.tokenizer, &config.model.path) {
        (Some(path), _) => Ok(Some(path.clone())),
        (None, Some(model)) => model_folder(model).map(Some),
        (None, None) => Ok(None),
    }
}
