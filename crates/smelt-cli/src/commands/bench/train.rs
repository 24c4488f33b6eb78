//! `smelt bench train`: steps of any run config, on ids that mean nothing.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use smelt_backend::{Job, Kernels, dispatch, memory};
use smelt_model::estimate::parameters;
use smelt_model::{ModelConfig, Trained, training_flops_per_token};

use super::against::ratios;
use super::{MatmulJob, batch, median};
use crate::commands::train::{TrainSettings, model_flag};
use crate::config::{Method, RunConfig};
use crate::context::Context;
use crate::error::CliError;
use crate::hub::localize;
use crate::quantity::bytes;
use crate::resolve::{Sources, resolve};
use crate::table::{Align, render};
use crate::training::{fitting_backend, new_trainer, requested_model};

const EXAMPLES: &str = "\
Examples:
  smelt bench train                                       the quick start's model
  smelt bench train --config configs/tiny.yaml --batch-size 2 --seq-length 512
  smelt bench train --config configs/lora.yaml --model ~/models/llama --against peft.jsonl";

/// Arguments of `smelt bench train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchTrainArgs {
    /// Run config in YAML; its data is not looked at [default: the embedded quick start]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the config
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Start from the weights of a model folder
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Steps to time
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps before them
    #[arg(long, value_name = "N", default_value_t = 3)]
    warm_steps: u32,
    /// Results of other programs, one JSON object per line, to print ratios with
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The settings that have a flag of their own.
    #[command(flatten)]
    settings: TrainSettings,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Speed {
    method: Method,
    precision: String,
    parameters: u64,
    batch_size: usize,
    seq_length: usize,
    /// Median over the steps.
    step_s: f64,
    min_s: f64,
    max_s: f64,
    tok_s: f64,
    /// Operations per second of the speed that matrix products in f32 reach.
    share_of_matmul: f64,
    /// Largest resident memory of the process.
    peak_memory_bytes: Option<u64>,
    estimated_memory_bytes: u64,
    loss: f64,
}

pub fn run(args: &BenchTrainArgs, context: &Context) -> Result<(), CliError> {
    let mut flags = args.settings.given();
    flags.extend(args.model.as_deref().map(model_flag));
    let mut config = resolve(&Sources { config: args.config.as_deref(), sets: &args.sets, flags })?;
    localize(&mut config, context)?;
    if let Some(name) = &context.backend {
        config.backend.name.clone_from(name);
    }
    let model = requested_model(&config, None)?;
    let (plan, selection) = fitting_backend(&config, &model)?;
    context.output.note(&format!("measuring {} steps", args.steps));
    let steps = StepsJob { config: &config, model: &model, steps: args.steps, warm_steps: args.warm_steps };
    let (seconds, loss) = dispatch(selection.name, steps)?;
    let peak_memory_bytes = memory::process_peak_bytes();
    context.output.note("measuring matmul");
    let matmul = dispatch(selection.name, MatmulJob { size: 1024 });
    let (batch_size, seq_length) = (config.train.batch_size, config.train.seq_length);
    let accumulated = config.train.gradient_accumulation_steps;
    let step_s = median(seconds.clone());
    let tok_s = (batch_size * seq_length * accumulated) as f64 / step_s;
    let trained = if config.train.method == Method::Full { Trained::Model } else { Trained::Adapter };
    let speed = Speed {
        method: config.train.method,
        precision: config.train.precision.to_string(),
        parameters: parameters(&model.decoder).total,
        batch_size,
        seq_length,
        step_s,
        min_s: seconds.iter().copied().fold(f64::INFINITY, f64::min),
        max_s: seconds.iter().copied().fold(0.0, f64::max),
        tok_s,
        share_of_matmul: tok_s * training_flops_per_token(&model.decoder, seq_length, trained) / matmul,
        peak_memory_bytes,
        estimated_memory_bytes: plan.estimate().peak_bytes,
        loss,
    };
    context.output.record(&speed)?;
    context.output.line(&table(&speed))?;
    let Some(file) = &args.against else { return Ok(()) };
    let megabytes = |bytes: u64| ("training memory", bytes as f64 / f64::from(1 << 20));
    let ours: Vec<_> = [("training", tok_s)].into_iter().chain(peak_memory_bytes.map(megabytes)).collect();
    for line in ratios(file, &ours)? {
        context.output.line(&line)?;
    }
    Ok(())
}

fn table(speed: &Speed) -> String {
    let columns = [("measurement", Align::Left), ("value", Align::Left)];
    let shape = format!("{} x {} tokens", speed.batch_size, speed.seq_length);
    let step = format!("{:.3} s ({:.3} to {:.3})", speed.step_s, speed.min_s, speed.max_s);
    let peak = speed.peak_memory_bytes.map_or("unknown".to_owned(), bytes);
    let rows = [
        ("parameters", speed.parameters.to_string()),
        ("batch", shape),
        ("step", step),
        ("speed", format!("{:.1} tokens/s", speed.tok_s)),
        ("share of matmul in f32", format!("{:.0} %", 100.0 * speed.share_of_matmul)),
        ("peak memory", format!("{peak} (estimate {})", bytes(speed.estimated_memory_bytes))),
    ];
    render(&columns, &rows.map(|(name, value)| vec![name.to_owned(), value]))
}

/// Seconds of each step, and the loss of the last.
pub struct StepsJob<'a> {
    pub config: &'a RunConfig,
    pub model: &'a ModelConfig,
    /// Steps that are timed.
    pub steps: u32,
    /// Steps before them.
    pub warm_steps: u32,
}

impl Job for StepsJob<'_> {
    type Output = Result<(Vec<f64>, f64), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let mut trainer = new_trainer::<B>(self.config, self.model, device)?;
        let settings = &self.config.train;
        let one = batch(settings.batch_size, settings.seq_length, self.model.decoder.vocab_size);
        let batches = vec![one; settings.gradient_accumulation_steps];
        let (mut seconds, mut loss) = (Vec::new(), 0.0);
        for step in 0..self.warm_steps + self.steps {
            let started = Instant::now();
            loss = trainer.step(&batches)?.loss;
            if step >= self.warm_steps {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
        Ok((seconds, loss))
    }
}
