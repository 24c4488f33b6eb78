//! An adapter from one format of folders to another.

use std::path::Path;

use serde::Serialize;
use smelt_backend::{Job, Kernels, dispatch};
use smelt_model::adapter::save_mlx_adapter;
use smelt_model::weights::LoadOptions;
use smelt_model::{Adapter, save_adapter};

use super::{ConvertArgs, Format};
use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::folders::copy_tokenizer;
use crate::model_files;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Converted<'a> {
    output: &'a Path,
    to: Format,
}

pub fn run(args: &ConvertArgs, base: &Path, adapter: &Path, context: &Context) -> Result<(), CliError> {
    if args.dtype.is_some() || args.quantize.is_some() || !matches!(args.to, Format::Hf | Format::Mlx) {
        return Err(CliError::Usage {
            message: format!(
                "`{}` is an adapter, which is converted as it is, to `hf` or `mlx`",
                adapter.display()
            ),
            hint: "`smelt fuse` makes it part of its base, which converts to everything".to_owned(),
        });
    }
    if Adapter::is_in(&args.output) {
        return Err(CliError::Usage {
            message: format!("`{}` already holds an adapter", args.output.display()),
            hint: "give another `--output`".to_owned(),
        });
    }
    let selection = context.select(&BackendSection::default(), None)?;
    dispatch(selection.name, ConvertJob { base, adapter, to: args.to, output: &args.output })?;
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
        let (config, base) = model_files::load::<B>(self.base, LoadOptions::default(), &device)?;
        let mut adapter = Adapter::open(self.adapter, &config.family.names)?;
        adapter.config.base_model_name_or_path = Some(self.base.display().to_string());
        let model = base.with_adapter(&config, &adapter)?;
        if self.to == Format::Mlx {
            save_mlx_adapter(&config, &model, &adapter.config, self.output)?;
        } else {
            save_adapter(&config, &model, &adapter.config, self.output)?;
        }
        Ok(())
    }
}
