//! The models that are served: their names, files and templates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::Args;
use smelt_backend::Name;
use smelt_data::hub::RepoKind;
use smelt_model::CONFIG_FILE;
use smelt_serve::ServedModel;

use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::hub::local_folder;
use crate::model_source::ModelSource;
use crate::quickstart;
use crate::text_model::TextModel;

/// Which models to serve.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model folder, folder of a run, or hub id, and its name; may be given several times
    #[arg(long, value_name = "[NAME=]DIR", default_value = quickstart::OUTPUT)]
    pub model: Vec<String>,
    /// Adapter and the name under which it and its base are one model; may be given several times
    #[arg(long, value_name = "NAME=DIR")]
    pub adapter: Vec<String>,
    /// Smaller model that guesses tokens ahead for the model NAME, or for the first one, and for its adapters; it has the
    /// same tokenizer; may be given several times
    #[arg(long, value_name = "[NAME=]DIR", group = GUESSES)]
    pub draft_model: Vec<String>,
}

/// The flags that say where guesses come from, of which one may be given.
pub const GUESSES: &str = "guesses";

/// The models in the order in which they were given, adapters last.
#[derive(Debug)]
pub struct Served {
    models: Vec<TextModel>,
    /// Of each the name of the model whose adapter it is.
    parents: Vec<Option<String>>,
}

impl Served {
    /// Finds what the arguments name, and reads all but the weights.
    ///
    /// # Errors
    /// [`CliError`] if a file is missing or damaged, or two models have one name.
    pub fn find(args: &ModelArgs, context: &Context) -> Result<Self, CliError> {
        let mut models = Vec::new();
        for argument in &args.model {
            let (name, path) = named(argument);
            let folder = local_folder(&path, RepoKind::Model, context)?;
            let source = ModelSource::find(&folder, None)?;
            models.push(TextModel::read(name.unwrap_or_else(|| name_of(&path)), source)?);
        }
        let mut parents = vec![None; models.len()];
        for argument in &args.adapter {
            let (Some(name), path) = named(argument) else {
                return Err(CliError::Usage {
                    message: format!("the adapter `{argument}` has no name"),
                    hint: format!("write `--adapter NAME={argument}`"),
                });
            };
            let (parent, source) = adapted(&models[..args.model.len()], &path)?;
            models.push(TextModel::read(name, source)?);
            parents.push(Some(parent));
        }
        for argument in &args.draft_model {
            let (name, path) = named(argument);
            let folder = local_folder(&path, RepoKind::Model, context)?;
            let name = name.unwrap_or_else(|| models[0].name.clone());
            let own = models.iter_mut().zip(&parents);
            let mut own =
                own.filter(|(model, parent)| parent.as_ref().unwrap_or(&model.name) == &name).peekable();
            if own.peek().is_none_or(|(model, _)| model.draft.is_some()) {
                return Err(CliError::Usage {
                    message: format!(
                        "`--draft-model {argument}` finds no model `{name}` without a draft model"
                    ),
                    hint: "write `--draft-model NAME=DIR`, once for each name of a `--model`".to_owned(),
                });
            }
            own.try_for_each(|(model, _)| model.set_draft(&folder))?;
        }
        let mut names = BTreeSet::new();
        match models.iter().find(|model| !names.insert(model.name.as_str())) {
            Some(model) => Err(CliError::Usage {
                message: format!("two models are called `{}`", model.name),
                hint: "give them names: `--model NAME=DIR`".to_owned(),
            }),
            None => Ok(Self { models, parents }),
        }
    }

    /// Selects the backend for the largest of them.
    ///
    /// # Errors
    /// [`CliError::Backend`].
    pub fn select(&self, context: &Context) -> Result<Name, CliError> {
        let needed = self.models.iter().map(|model| model.required_bytes(1, usize::MAX, None)).max();
        Ok(context.select(&BackendSection::default(), needed)?.name)
    }

    /// The models.
    pub fn models(&self) -> &[TextModel] {
        &self.models
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.models.iter().map(|model| model.name.as_str()).collect()
    }

    /// What the server is told of them.
    pub fn for_server(&self) -> Vec<ServedModel> {
        let model = |(model, parent): (&TextModel, &Option<String>)| ServedModel {
            tokenizer: model.tokenizer.clone(),
            template: model.template.clone(),
            stop_tokens: model.stop_tokens.clone(),
            parent: parent.clone(),
            created: created(&model.source.base),
        };
        self.models.iter().zip(&self.parents).map(model).collect()
    }
}

/// Seconds from 1970 to when the model in `folder` was written.
fn created(folder: &Path) -> u64 {
    let written = fs::metadata(folder.join(CONFIG_FILE)).and_then(|file| file.modified()).ok();
    let since = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
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
fn adapted(models: &[TextModel], path: &Path) -> Result<(String, ModelSource), CliError> {
    let base = match (models, ModelSource::find(path, None)) {
        ([only], _) => only,
        (_, Ok(found)) => {
            let same = |model: &&TextModel| {
                fs::canonicalize(&model.source.base).ok() == fs::canonicalize(&found.base).ok()
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
