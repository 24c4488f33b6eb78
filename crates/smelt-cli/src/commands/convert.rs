//! `smelt convert`: an adapter from one format of folders to another.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use smelt_backend::{Job, Kernels, dispatch};
use smelt_data::hub::RepoKind;
use smelt_model::adapter::save_mlx_adapter;
use smelt_model::{Adapter, load, save_adapter};

use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::folders::copy_tokenizer;
use crate::hub::local_folder;
use crate::model_source::ModelSource;

const EXAMPLES: &str = "\
Examples:
  smelt convert --model runs/lora --to mlx --output adapters/mlx
  smelt convert --model ~/models/llama --adapter ~/adapters/mlx --to hf --output adapters/peft";

/// Arguments of `smelt convert`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConvertArgs {
    /// An adapter that names its base, the run that trained one, or the base itself
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Folder of an adapter, or of the run that trained it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    pub to: Format,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
}

/// Formats of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Hugging Face's: transformers and PEFT
    Hf,
    /// That of mlx-lm
    Mlx,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Converted<'a> {
    output: &'a Path,
    to: Format,
}

pub fn run(args: &ConvertArgs, context: &Context) -> Result<(), CliError> {
    let model = local_folder(&args.model, RepoKind::Model, context)?;
    let source = ModelSource::find(&model, args.adapter.as_deref())?;
    let Some(adapter) = source.adapter.as_deref() else {
        return Err(CliError::Usage {
            message: format!("`{}` is a model; adapters alone are converted so far", source.base.display()),
            hint: "name an adapter with `--adapter DIR`".to_owned(),
        });
    };
    if Adapter::is_in(&args.output) {
        return Err(CliError::Usage {
            message: format!("`{}` already holds an adapter", args.output.display()),
            hint: "give another `--output`".to_owned(),
        });
    }
    let selection = context.select(&BackendSection::default(), None)?;
    let job = ConvertJob { base: &source.base, adapter, to: args.to, output: &args.output };
    dispatch(selection.name, job)?;
    copy_tokenizer(adapter, &args.output)?;
    context.output.record(&Converted { output: &args.output, to: args.to })?;
    context.output.line(&format!("wrote {}", args.output.display()))
}

struct ConvertJob<'a> {
    base: &'a Path,
    adapter: &'a Path,
    to: Format,
    output: &'a Path,
}

impl Job for ConvertJob<'_> {
    type Output = Result<(), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let (config, base) = load::<B>(self.base, &device)?;
        let mut adapter = Adapter::open(self.adapter, &config.family.names)?;
        adapter.config.base_model_name_or_path = Some(self.base.display().to_string());
        let model = base.with_adapter(&config, &adapter)?;
        match self.to {
            Format::Hf => save_adapter(&config, &model, &adapter.config, self.output)?,
            Format::Mlx => save_mlx_adapter(&config, &model, &adapter.config, self.output)?,
        }
        Ok(())
    }
}
