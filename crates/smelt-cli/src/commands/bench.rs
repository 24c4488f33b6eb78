//! `smelt bench`: speed of training, decoding, matmul and memory, and the share of the machine's limit
//! that training and decoding achieve.
//!
//! The limits are measured, not read from a data sheet: matmul at its best size bounds training, the speed
//! at which weights are read bounds decoding.

mod against;
mod clients;
mod folder;
mod plot;
mod serve;
mod train;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rayon::prelude::*;
use serde::Serialize;
use smelt_backend::{Job, Kernels, Name, dispatch, matmul_flops_per_second};
use smelt_data::TokenBatch;
use smelt_data::hub::RepoKind;
use smelt_generate::{GenerateOptions, generate};
use smelt_model::estimate::parameters;
use smelt_model::{Decoder, ModelConfig, Trained, training_flops_per_token};

use self::folder::FolderJob;
use self::train::StepsJob;
use crate::config::{BackendSection, RunConfig};
use crate::context::Context;
use crate::error::CliError;
use crate::folders::model_folder;
use crate::hub::local_folder;
use crate::memory_plan::MemoryPlan;
use crate::table::{Align, render};

const EXAMPLES: &str = "\
Examples:
  smelt bench
  smelt bench --backend candle --json
  smelt bench --model runs/mine --against results.jsonl
  smelt bench train --config configs/tiny.yaml --batch-size 2 --seq-length 512
  smelt bench serve --model runs/mine --plot serve.svg";

/// Arguments of `smelt bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    /// Folder of a model: times loading it, its first token, a prompt and decoding, and nothing else
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Results of other programs, one JSON object per line, to print ratios with
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Training steps to time
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Tokens to decode
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=200))]
    pub tokens: u32,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure our own server under many clients at a time
    Serve(Box<serve::BenchServeArgs>),
    /// Measure training of any model: speed, memory, share of the machine's limit
    Train(Box<train::BenchTrainArgs>),
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Measurement {
    measurement: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    /// Part of the machine's limit, where there is one to compare with.
    share_of_limit: Option<f64>,
    limit: Option<&'static str>,
}

pub fn run(args: &BenchArgs, context: &Context) -> Result<(), CliError> {
    match &args.command {
        Some(BenchCommand::Serve(args)) => return serve::run(args, context),
        Some(BenchCommand::Train(args)) => return train::run(args, context),
        None => {}
    }
    let measurements = match &args.model {
        Some(folder) => {
            let folder = model_folder(&local_folder(folder, RepoKind::Model, context)?)?;
            let selection = context.select(&BackendSection::default(), None)?;
            measure_folder(&folder, args.tokens as usize, selection.name, context)?
        }
        None => {
            let config = RunConfig::quick_start();
            let model = config.model.model_config()?;
            let backend = context.backend.as_deref();
            let needed = MemoryPlan::new(&config, &model, backend)?.estimate().peak_bytes;
            let selection = context.select(&config.backend, Some(needed))?;
            measure(args, &config, &model, selection.name, context)?
        }
    };
    for measurement in &measurements {
        context.output.record(measurement)?;
    }
    context.output.line(&table(&measurements))?;
    if let Some(file) = &args.against {
        let ours: Vec<_> = measurements.iter().map(|row| (row.measurement, row.value)).collect();
        for ratio in against::ratios(file, &ours)? {
            context.output.line(&ratio)?;
        }
    }
    Ok(())
}

fn measure_folder(
    folder: &Path,
    tokens: usize,
    backend: Name,
    context: &Context,
) -> Result<Vec<Measurement>, CliError> {
    context.output.note("measuring memory");
    let bandwidth = memory_bandwidth();
    context.output.note("measuring the model");
    let speed = dispatch(backend, FolderJob { folder, tokens })?;
    let prompt = folder::PROMPT_TOKENS;
    let decode = speed.decode_tokens_per_second;
    Ok(vec![
        limit("memory read", format!("{} MiB by all threads", READ_BYTES >> 20), bandwidth / 1e9, "GB/s"),
        limit("load", "from the system's file cache".to_owned(), speed.load_seconds, "s"),
        limit("first token", format!("load and {prompt} tokens"), speed.first_token_seconds, "s"),
        limit("prefill", format!("{prompt} tokens"), speed.prefill_tokens_per_second, "tokens/s"),
        Measurement {
            measurement: "decode",
            what: format!("{tokens} tokens after them"),
            value: decode,
            unit: "tokens/s",
            share_of_limit: Some(decode * speed.weights_bytes / bandwidth),
            limit: Some("memory read"),
        },
    ])
}

fn measure(
    args: &BenchArgs,
    config: &RunConfig,
    model: &ModelConfig,
    backend: Name,
    context: &Context,
) -> Result<Vec<Measurement>, CliError> {
    let mut rows = Vec::new();
    context.output.note("measuring memory");
    let bandwidth = memory_bandwidth();
    rows.push(limit(
        "memory read",
        format!("{} MiB by all threads", READ_BYTES >> 20),
        bandwidth / 1e9,
        "GB/s",
    ));
    context.output.note("measuring matmul");
    let mut best: f64 = 0.0;
    for size in MATMUL_SIZES {
        let speed = dispatch(backend, MatmulJob { size });
        best = best.max(speed);
        rows.push(limit("matmul", format!("{size} x {size} x {size}, f32"), speed / 1e9, "GFLOP/s"));
    }
    let shape = format!("{} x {} tokens", config.train.batch_size, config.train.seq_length);
    context.output.note("measuring training");
    let (seconds, _) = dispatch(backend, StepsJob { config, model, steps: args.steps, warm_steps: 1 })?;
    let tokens = config.train.batch_size * config.train.seq_length * config.train.gradient_accumulation_steps;
    let speed = (tokens * seconds.len()) as f64 / seconds.iter().sum::<f64>();
    let flops = speed * training_flops_per_token(&model.decoder, config.train.seq_length, Trained::Model);
    rows.push(Measurement {
        measurement: "training",
        what: format!("the quick start's model, {shape}"),
        value: speed,
        unit: "tokens/s",
        share_of_limit: Some(flops / best),
        limit: Some("matmul"),
    });
    context.output.note("measuring decoding");
    let [prefill, decode] = dispatch(backend, DecodeJob { model, tokens: args.tokens as usize })?;
    rows.push(limit("prefill", format!("{PROMPT_TOKENS} tokens"), prefill, "tokens/s"));
    let weights_bytes = parameters(&model.decoder).total as f64 * size_of::<f32>() as f64;
    rows.push(Measurement {
        measurement: "decode",
        what: format!("{} tokens after them", args.tokens),
        value: decode,
        unit: "tokens/s",
        share_of_limit: Some(decode * weights_bytes / bandwidth),
        limit: Some("memory read"),
    });
    Ok(rows)
}

fn limit(measurement: &'static str, what: String, value: f64, unit: &'static str) -> Measurement {
    Measurement { measurement, what, value, unit, share_of_limit: None, limit: None }
}

fn table(rows: &[Measurement]) -> String {
    let columns = [
        ("measurement", Align::Left),
        ("of", Align::Left),
        ("speed", Align::Right),
        ("unit", Align::Left),
        ("share of limit", Align::Left),
    ];
    let row = |row: &Measurement| {
        let share = row.share_of_limit.zip(row.limit);
        vec![
            row.measurement.to_owned(),
            row.what.clone(),
            if row.unit == "s" { format!("{:.3}", row.value) } else { format!("{:.1}", row.value) },
            row.unit.to_owned(),
            share.map_or(String::new(), |(share, limit)| format!("{:.0} % of {limit}", share * 100.0)),
        ]
    };
    render(&columns, &rows.iter().map(row).collect::<Vec<_>>())
}

/// Far above any cache.
const READ_BYTES: usize = 512 << 20;
const READ_ROUNDS: usize = 4;

/// Bytes per second at which all threads together read memory.
fn memory_bandwidth() -> f64 {
    let values = vec![1u64; READ_BYTES / size_of::<u64>()];
    let chunk = values.len().div_ceil(rayon::current_num_threads());
    let read = || {
        values
            .par_chunks(chunk)
            .map(|chunk| chunk.iter().fold(0u64, |sum, value| sum.wrapping_add(*value)))
            .sum::<u64>()
    };
    black_box(read());
    let started = Instant::now();
    for _ in 0..READ_ROUNDS {
        black_box(read());
    }
    (READ_BYTES * READ_ROUNDS) as f64 / started.elapsed().as_secs_f64()
}

const MATMUL_SIZES: [usize; 2] = [512, 1024];
const MATMUL_TIME: Duration = Duration::from_secs(1);

/// Floating-point operations per second of square matrices.
struct MatmulJob {
    size: usize,
}

impl Job for MatmulJob {
    type Output = f64;

    fn run<B: Kernels>(self, device: B::Device) -> f64 {
        matmul_flops_per_second::<B>(self.size, MATMUL_TIME, &device)
    }
}

/// Ids that repeat only after a while, for every backend the same.
fn batch(batch_size: usize, seq_length: usize, vocab_size: usize) -> TokenBatch {
    let ids: Vec<u32> =
        (0..batch_size * seq_length).map(|index| (index * 7919 % vocab_size) as u32).collect();
    TokenBatch {
        batch_size,
        seq_length,
        targets: ids.clone(),
        loss_mask: vec![1.0; ids.len()],
        input_ids: ids,
        document_ids: None,
        position_ids: None,
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const PROMPT_TOKENS: usize = 50;

/// Tokens per second of a prompt, and of what follows it.
struct DecodeJob<'a> {
    model: &'a ModelConfig,
    tokens: usize,
}

impl Job for DecodeJob<'_> {
    type Output = Result<[f64; 2], CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let model = Decoder::<B>::init(self.model, 0, &device);
        let prompt = batch(1, PROMPT_TOKENS, self.model.decoder.vocab_size).input_ids;
        let options = GenerateOptions { max_tokens: self.tokens, ..GenerateOptions::default() };
        let round =
            || generate(&model, self.model, &prompt, &options, &mut |_| ControlFlow::Continue(()), &device);
        round()?;
        let report = round()?;
        Ok([report.prompt_tokens_per_second(), report.generation_tokens_per_second()])
    }
}
