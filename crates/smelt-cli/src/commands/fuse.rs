//! `smelt fuse`: makes an adapter part of its base.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use smelt_backend::{Job, Kernels, dispatch};
use smelt_data::hub::RepoKind;
use smelt_model::adapter::RoundingError;
use smelt_model::weights::GENERATION_CONFIG_FILE;
use smelt_model::{CONFIG_FILE, save};

use crate::comparison::{Comparison, compared, logits, meaningless};
use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::folders::copy_tokenizer;
use crate::hub::local_folder;
use crate::model_source::ModelSource;

const EXAMPLES: &str = "\
Examples:
  smelt fuse --model runs/lora --output models/mine
  smelt fuse --model ~/models/llama --adapter ~/adapters/bash --output models/llama-bash
  smelt fuse --model runs/qlora --dequantize --output models/mine-f32";

/// Tokens of the text on which the fused model is held against base and adapter.
const COMPARED_TOKENS: usize = 32;

/// Arguments of `smelt fuse`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct FuseArgs {
    /// Model folder or hub id; or the run that trained an adapter, or an adapter that names its base
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Folder of the adapter, or of the run that trained it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Folder to write the model to
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Of a quantized model, write all weights in f32 instead of quantizing those that changed again
    #[arg(long)]
    pub dequantize: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Fused<'a> {
    output: &'a Path,
    /// Largest difference between logits.
    largest_difference: f64,
    /// Share of positions whose likeliest token is the same.
    top_1_agreement: f64,
    /// What quantizing the sums again cost, where it was done.
    requantized: Option<Requantized>,
}

/// How far the weights that changed were rounded.
#[derive(Debug, Clone, Serialize)]
struct Requantized {
    modules: usize,
    /// Root mean square of a module's error, over that of its weights: the mean over the modules.
    mean_error: f64,
    /// The same of the worst module.
    largest_error: f64,
    worst_module: String,
}

pub fn run(args: &FuseArgs, context: &Context) -> Result<(), CliError> {
    let source =
        ModelSource::find(&local_folder(&args.model, RepoKind::Model, context)?, args.adapter.as_deref())?;
    if source.adapter.is_none() {
        return Err(CliError::Usage {
            message: "there is no adapter to fuse".to_owned(),
            hint: "name its folder with `--adapter DIR`".to_owned(),
        });
    }
    if args.output.join(CONFIG_FILE).exists() {
        return Err(CliError::Usage {
            message: format!("`{}` already holds a model", args.output.display()),
            hint: "give another `--output`".to_owned(),
        });
    }
    let selection = context.select(&BackendSection::default(), None)?;
    let job = FuseJob { source: &source, output: &args.output, dequantize: args.dequantize };
    let (compared, requantized) = dispatch(selection.name, job)?;
    copy_tokenizer(source.tokenizer_folder(), &args.output)?;
    let Comparison { largest_difference, top_1_agreement, .. } = compared;
    let output = &args.output;
    context.output.record(&Fused {
        output,
        largest_difference,
        top_1_agreement,
        requantized: requantized.clone(),
    })?;
    if let Some(Requantized { modules, mean_error, largest_error, worst_module }) = requantized {
        context.output.line(&format!(
            "quantized {modules} modules again, which moved their weights by {:.2} % (root mean square; at most {:.2} % \
             in {worst_module}); `--dequantize` would keep them as they are",
            100.0 * mean_error,
            100.0 * largest_error
        ))?;
    }
    context.output.line(&format!(
        "wrote {}; logits differ from those of base and adapter by at most {largest_difference:.1e}, the likeliest \
         token is the same in {:.0} % of {COMPARED_TOKENS} places",
        output.display(),
        100.0 * top_1_agreement
    ))
}

struct FuseJob<'a> {
    source: &'a ModelSource,
    output: &'a Path,
    dequantize: bool,
}

impl Job for FuseJob<'_> {
    type Output = Result<(Comparison, Option<Requantized>), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let (mut config, mut model) = self.source.load::<B>(&device)?;
        let vocab_size = config.decoder.vocab_size;
        let length = COMPARED_TOKENS.min(config.decoder.context_length());
        let ids = meaningless(vocab_size, length, 0);
        let adapted = logits(&model, &config.decoder, &ids, &device)?;
        let mut requantized = None;
        if config.quantization.is_some() && !self.dequantize {
            requantized = requantized_of(&model.merge_adapter_packed(&config)?);
            config = model.described(&config);
        } else {
            model.merge_adapter();
            model.unpack();
            config = config.dequantized();
        }
        if model.lm_head.is_some() && config.decoder.tie_word_embeddings {
            config.raw.insert("tie_word_embeddings".to_owned(), false.into());
        }
        // That of the base says more than what follows from its configuration.
        let generation = self.source.base.join(GENERATION_CONFIG_FILE);
        if generation.is_file() {
            let failed = |source| CliError::Io { action: "write", path: self.output.to_owned(), source };
            fs::create_dir_all(self.output).map_err(failed)?;
            fs::copy(&generation, self.output.join(GENERATION_CONFIG_FILE)).map_err(failed)?;
        }
        save(&config, &model, self.output)?;
        let fused = logits(&model, &config.decoder, &ids, &device)?;
        // Whatever the rounding costs is reported, not judged.
        Ok((compared(&[adapted], &[fused], vocab_size, f64::INFINITY), requantized))
    }
}

fn requantized_of(errors: &[RoundingError]) -> Option<Requantized> {
    let worst = errors.iter().max_by(|a, b| a.relative.total_cmp(&b.relative))?;
    Some(Requantized {
        modules: errors.len(),
        mean_error: errors.iter().map(|error| error.relative).sum::<f64>() / errors.len() as f64,
        largest_error: worst.relative,
        worst_module: worst.module.clone(),
    })
}
