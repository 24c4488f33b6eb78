//! `smelt estimate`: the memory that a config needs, by part, and where it fits.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use smelt_backend::{BackendReport, survey};
use smelt_model::ModelConfig;
use smelt_model::estimate::{
    InferenceEstimate, InferenceShape, ParameterCount, TrainingEstimate, inference, parameters,
};

use crate::commands::train::{TrainSettings, model_flag};
use crate::config::RunConfig;
use crate::context::Context;
use crate::error::CliError;
use crate::folders::model_folder;
use crate::hub::localize;
use crate::memory_plan::{MemoryPlan, base_bytes};
use crate::model_files;
use crate::quantity::{bytes, count};
use crate::resolve::{Sources, resolve};
use crate::table::{Align, render};

const EXAMPLES: &str = "\
Examples:
  smelt estimate                                      the quick start
  smelt estimate --config configs/tiny.yaml --batch-size 2 --seq-length 512
  smelt estimate --model ~/models/llama --method qlora --q-bits 4 --lora-rank 16
  smelt estimate --model ~/models/gpt2 --json";

/// Arguments of `smelt estimate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EstimateArgs {
    /// Run config in YAML [default: the embedded quick start]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set any key of the config
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Take the shape from a model folder
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// The settings that have a flag of their own: those of `smelt train`.
    #[command(flatten)]
    pub settings: TrainSettings,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Estimate {
    batch_size: usize,
    seq_length: usize,
    parameters: ParameterCount,
    training: TrainingEstimate,
    inference: InferenceEstimate,
    backends: Vec<Fit>,
    advice: Option<String>,
}

/// Whether one backend holds the training.
#[derive(Debug, Serialize)]
struct Fit {
    backend: String,
    memory_available_bytes: Option<u64>,
    training_fits: Option<bool>,
    inference_fits: Option<bool>,
}

pub fn run(args: &EstimateArgs, context: &Context) -> Result<(), CliError> {
    let mut flags = args.settings.given();
    flags.extend(args.model.as_deref().map(model_flag));
    let mut config = resolve(&Sources { config: args.config.as_deref(), sets: &args.sets, flags })?;
    localize(&mut config, context)?;
    let model = match &config.model.path {
        Some(path) => model_files::config(&model_folder(path)?)?,
        None => config.model.model_config()?,
    };
    let estimate = gather(&config, &model, context.backend.as_deref())?;
    context.output.record(&estimate)?;
    context.output.line(&page(&estimate))
}

fn gather(config: &RunConfig, model: &ModelConfig, backend: Option<&str>) -> Result<Estimate, CliError> {
    let plan = MemoryPlan::new(config, model, backend)?;
    let needed = plan.estimate();
    let capacity = model.decoder.context_length();
    let generation = inference(
        &model.decoder,
        InferenceShape {
            batch_size: 1,
            prompt_length: config.train.seq_length.min(capacity),
            capacity,
            kv_bits: None,
            weights_bytes: base_bytes(config, model, backend),
        },
    );
    let named =
        |report: &BackendReport| backend.is_none_or(|name| name == "auto" || name == report.name.as_str());
    let limited = |free: u64| config.train.memory_limit.map_or(free, |limit| limit.0.min(free));
    let backends: Vec<Fit> = survey()
        .into_iter()
        .filter(|report| report.in_build && named(report))
        .map(|report| Fit {
            backend: report.name.to_string(),
            memory_available_bytes: report.memory_available_bytes,
            training_fits: report.memory_available_bytes.map(|free| needed.peak_bytes <= limited(free)),
            inference_fits: report.memory_available_bytes.map(|free| generation.peak_bytes <= free),
        })
        .collect();
    let fits = backends.iter().any(|fit| fit.training_fits != Some(false));
    let most = backends.iter().filter_map(|fit| fit.memory_available_bytes).max();
    Ok(Estimate {
        batch_size: config.train.batch_size,
        seq_length: config.train.seq_length,
        parameters: parameters(&model.decoder),
        training: needed,
        inference: generation,
        advice: most.filter(|_| !fits).map(|free| plan.advice(limited(free))),
        backends,
    })
}

fn page(estimate: &Estimate) -> String {
    let (training, inference) = (&estimate.training, &estimate.inference);
    let part = |name: &str, trained: Option<u64>, generated: Option<u64>| {
        let shown = |size: Option<u64>| size.map_or("-".to_owned(), bytes);
        vec![name.to_owned(), shown(trained), shown(generated)]
    };
    let parts = [
        part("program", Some(training.process_bytes), Some(inference.process_bytes)),
        part("weights", Some(training.weights_bytes), Some(inference.weights_bytes)),
        part("gradients", Some(training.gradients_bytes), None),
        part("optimizer", Some(training.optimizer_bytes), None),
        part("activations", Some(training.activations_bytes), None),
        part("loss", Some(training.loss_bytes), None),
        part("working buffers", Some(training.working_bytes), Some(inference.working_bytes)),
        part("key-value cache", None, Some(inference.kv_cache_bytes)),
        part("peak", Some(training.peak_bytes), Some(inference.peak_bytes)),
    ];
    let head = format!(
        "{} parameters; training with batches of {} x {} tokens, generation at full context",
        count(estimate.parameters.total),
        estimate.batch_size,
        estimate.seq_length
    );
    let columns = [("part", Align::Left), ("training", Align::Right), ("generation", Align::Right)];
    let mut page = format!("{head}\n\n{}\n\n{}", render(&columns, &parts), backend_table(&estimate.backends));
    if let Some(advice) = &estimate.advice {
        page += &format!("\n\ntraining does not fit: {advice}");
    }
    page
}

fn backend_table(fits: &[Fit]) -> String {
    let columns = [
        ("backend", Align::Left),
        ("memory free", Align::Right),
        ("training", Align::Left),
        ("generation", Align::Left),
    ];
    let word = |fits: Option<bool>| match fits {
        Some(true) => "fits".to_owned(),
        Some(false) => "does not fit".to_owned(),
        None => "unknown".to_owned(),
    };
    let row = |fit: &Fit| {
        let free = fit.memory_available_bytes.map_or("unknown".to_owned(), bytes);
        vec![fit.backend.clone(), free, word(fit.training_fits), word(fit.inference_fits)]
    };
    render(&columns, &fits.iter().map(row).collect::<Vec<_>>())
}
