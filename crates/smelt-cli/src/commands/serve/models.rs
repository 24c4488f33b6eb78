//! The models that are served: their names, files and templates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::Args;
use serde_json::Value;
use smelt_backend::Name;
use smelt_data::hub::RepoKind;
use smelt_generate::engine::EngineModel;
use smelt_model::estimate::{InferenceShape, inference};
use smelt_model::{CONFIG_FILE, ModelConfig};
use smelt_serve::ServedModel;
use smelt_text::{ChatTemplate, Tokenizer};

use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::generation::stop_tokens;
use crate::hub::local_folder;
use crate::memory_plan::held_bytes;
use crate::model_source::ModelSource;
use crate::quickstart;

/// Tokens that end a turn in the families' chat templates.
const END_OF_TURN: [&str; 5] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>"];

/// What Hugging Face folders say about generation beside `config.json`.
const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// Which models to serve.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model folder, folder of a run, or hub id, and its name; may be given several times
    #[arg(long, value_name = "[NAME=]DIR", default_value = quickstart::OUTPUT)]
    pub model: Vec<String>,
    /// Adapter and the name under which it and its base are one model; may be given several times
    #[arg(long, value_name = "NAME=DIR")]
    pub adapter: Vec<String>,
}

/// The models in the order in which they were given, adapters last.
#[derive(Debug)]
pub struct Served {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    source: ModelSource,
    config: Arc<ModelConfig>,
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    stop_tokens: Vec<u32>,
    parent: Option<String>,
    created: u64,
}

impl Served {
    /// Finds what the arguments name, and reads all but the weights.
    ///
    /// # Errors
    /// [`CliError`] if a file is missing or damaged, or two models have one name.
    pub fn find(args: &ModelArgs, context: &Context) -> Result<Self, CliError> {
        let mut entries = Vec::new();
        for argument in &args.model {
            let (name, path) = named(argument);
            let folder = local_folder(&path, RepoKind::Model, context)?;
            let source = ModelSource::find(&folder, None)?;
            entries.push(Entry::read(name.unwrap_or_else(|| name_of(&path)), source, None)?);
        }
        let models = entries.len();
        for argument in &args.adapter {
            let (Some(name), path) = named(argument) else {
                return Err(CliError::Usage {
                    message: format!("the adapter `{argument}` has no name"),
                    hint: format!("write `--adapter NAME={argument}`"),
                });
            };
            let (parent, source) = adapted(&entries[..models], &path)?;
            entries.push(Entry::read(name, source, Some(parent))?);
        }
        let mut names = BTreeSet::new();
        match entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
            Some(entry) => Err(CliError::Usage {
                message: format!("two models are called `{}`", entry.name),
                hint: "give them names: `--model NAME=DIR`".to_owned(),
            }),
            None => Ok(Self { entries }),
        }
    }

    /// Selects the backend for the largest of them.
    ///
    /// # Errors
    /// [`CliError::Backend`].
    pub fn select(&self, context: &Context) -> Result<Name, CliError> {
        let needed = self.entries.iter().map(Entry::required_bytes).max();
        Ok(context.select(&BackendSection::default(), needed)?.name)
    }

    /// Ids that the first one knows.
    pub fn vocab_size(&self) -> usize {
        self.entries.first().map_or(1, |entry| entry.config.decoder.vocab_size)
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// The files of one.
    pub fn source(&self, index: usize) -> &ModelSource {
        &self.entries[index].source
    }

    /// What the engine is told of them.
    pub fn for_engine(&self) -> Vec<EngineModel> {
        let model = |entry: &Entry| EngineModel {
            name: entry.name.clone(),
            tokenizer: Some(entry.tokenizer.clone()),
            config: entry.config.clone(),
            draft: None,
            prefix_file: None,
            weights_bytes: held_bytes(&entry.source.base, None).unwrap_or(0),
        };
        self.entries.iter().map(model).collect()
    }

    /// What the server is told of them.
    pub fn for_server(&self) -> Vec<ServedModel> {
        let model = |entry: &Entry| ServedModel {
            tokenizer: entry.tokenizer.clone(),
            template: entry.template.clone(),
            stop_tokens: entry.stop_tokens.clone(),
            parent: entry.parent.clone(),
            created: entry.created,
        };
        self.entries.iter().map(model).collect()
    }
}

impl Entry {
    fn read(name: String, source: ModelSource, parent: Option<String>) -> Result<Self, CliError> {
        let config = source.config()?;
        let folder = source.tokenizer_folder();
        let tokenizer = Tokenizer::from_folder(folder)?;
        let template = ChatTemplate::from_folder(folder, Some(&tokenizer))?;
        let mut ends: BTreeSet<u32> = stop_tokens(&config, &tokenizer).into_iter().collect();
        ends.extend(END_OF_TURN.iter().filter_map(|token| tokenizer.token_to_id(token)));
        ends.extend(of_generation_config(&source.base)?);
        let written = fs::metadata(source.base.join(CONFIG_FILE)).and_then(|file| file.modified()).ok();
        let created = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            name,
            config: Arc::new(config),
            tokenizer: Arc::new(tokenizer),
            template,
            stop_tokens: ends.into_iter().collect(),
            parent,
            created: created.map_or(0, |since| since.as_secs()),
            source,
        })
    }

    fn required_bytes(&self) -> u64 {
        let shape = InferenceShape {
            batch_size: 1,
            prompt_length: 512,
            capacity: self.config.decoder.context_length(),
            weights_bytes: held_bytes(&self.source.base, None),
            kv_bits: None,
        };
        inference(&self.config.decoder, shape).peak_bytes
    }
}

/// `NAME=DIR` in its parts; a path that is there may have any characters.
fn named(argument: &str) -> (Option<String>, PathBuf) {
    match argument.split_once('=') {
        Some((name, path)) if !name.is_empty() && !Path::new(argument).exists() => {
            (Some(name.to_owned()), path.into())
        }
        _ => (None, argument.into()),
    }
}

/// A hub id as it is, of a folder the last part.
fn name_of(path: &Path) -> String {
    if !path.exists() {
        return path.display().to_string();
    }
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The base of the adapter in `path`, one of `models`, and both together.
fn adapted(models: &[Entry], path: &Path) -> Result<(String, ModelSource), CliError> {
    let base = match (models, ModelSource::find(path, None)) {
        ([only], _) => only,
        (_, Ok(found)) => {
            let same = |entry: &&Entry| {
                fs::canonicalize(&entry.source.base).ok() == fs::canonicalize(&found.base).ok()
            };
            models.iter().find(same).ok_or_else(|| CliError::Usage {
                message: format!("the base of the adapter `{}` is none of the models", path.display()),
                hint: format!("serve it, too: `--model {}`", found.base.display()),
            })?
        }
        (_, Err(error)) => return Err(error),
    };
    Ok((base.name.clone(), ModelSource::find(&base.source.base, Some(path))?))
}

/// `eos_token_id` of `generation_config.json`, where chat models list more than in `config.json`.
fn of_generation_config(folder: &Path) -> Result<Vec<u32>, CliError> {
    let path = folder.join(GENERATION_CONFIG_FILE);
    let Ok(text) = fs::read(&path) else { return Ok(Vec::new()) };
    let config: Value = serde_json::from_slice(&text).map_err(|source| CliError::Json { path, source })?;
    let ids = match &config["eos_token_id"] {
        Value::Array(ids) => ids.clone(),
        id => vec![id.clone()],
    };
    Ok(ids.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect())
}
