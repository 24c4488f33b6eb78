//! `smelt generate`: completes a prompt.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;
use smelt_data::hub::RepoKind;
use smelt_generate::{GenerateReport, SamplingOptions};

use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::generation::{Generation, TextReport, TextRequest};
use crate::hub::local_folder;
use crate::quantity::bytes;
use crate::quickstart;

const EXAMPLES: &str = "\
Examples:
  smelt generate --prompt '#!/usr/bin/env bash'
  smelt generate --model ~/models/gpt2 --prompt 'The moon is' --max-tokens 50 --temperature 0
  head -5 script.sh | smelt generate --prompt - --seed 7";

/// Arguments of `smelt generate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    /// Model folder, folder of a run, or hub id
    #[arg(long, value_name = "DIR", default_value = quickstart::OUTPUT)]
    pub model: PathBuf,
    /// Folder of an adapter, or of the run that trained it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Text to complete, or `-` to read it from stdin [default: the start of a text]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub max_tokens: usize,
    /// Randomness; 0 always takes the likeliest token
    #[arg(long, value_name = "X", default_value_t = 0.8, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Keep the likeliest tokens that together have this probability
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Keep this many of the likeliest tokens
    #[arg(long, value_name = "N")]
    pub top_k: Option<usize>,
    /// Keep tokens at least this probable, relative to the likeliest
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Makes tokens that were seen less likely; above 1
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f64>,
    /// End at this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed of the sampling [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Record<'a> {
    prompt: Option<&'a str>,
    seed: u64,
    #[serde(flatten)]
    report: &'a TextReport,
}

pub fn run(args: &GenerateArgs, context: &Context) -> Result<(), CliError> {
    let request = request(args, context)?;
    let generation = Generation::prepare(&request)?;
    let selection = context.select(&BackendSection::default(), Some(generation.required_bytes()))?;
    let mut closed = None;
    let report = generation.run(selection.name, &mut |text| {
        closed = context.output.stream(text).err();
        if closed.is_some() || context.interrupt.requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    if let Some(error) = closed {
        return Err(error);
    }
    context.output.line("")?;
    let seed = request.sampling.seed;
    context.output.record(&Record { prompt: request.prompt.as_deref(), seed, report: &report })?;
    context.output.note(&summary(&report, seed));
    if context.interrupt.requested() { Err(CliError::Interrupted { hint: None }) } else { Ok(()) }
}

fn request(args: &GenerateArgs, context: &Context) -> Result<TextRequest, CliError> {
    let prompt = match args.prompt.as_deref() {
        Some("-") => Some(io::read_to_string(io::stdin()).map_err(|source| CliError::Io {
            action: "read",
            path: PathBuf::from("stdin"),
            source,
        })?),
        prompt => prompt.map(str::to_owned),
    };
    Ok(TextRequest {
        model: local_folder(&args.model, RepoKind::Model, context)?,
        adapter: args.adapter.clone(),
        prompt: prompt.filter(|text| !text.is_empty()),
        max_tokens: args.max_tokens,
        sampling: SamplingOptions {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            min_p: args.min_p,
            repetition_penalty: args.repetition_penalty,
            seed: args.seed.unwrap_or_else(seed_of_the_moment),
            ..SamplingOptions::default()
        },
        stop: args.stop.clone(),
    })
}

/// Another seed at each call, short enough to be typed again.
fn seed_of_the_moment() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) % 1_000_000
}

fn summary(report: &TextReport, seed: u64) -> String {
    let GenerateReport { prompt_tokens, generated_tokens, .. } = report.report;
    let memory =
        report.peak_memory_bytes.map_or(String::new(), |peak| format!("; peak memory {}", bytes(peak)));
    format!(
        "prompt: {prompt_tokens} tokens, {:.1} tokens/s; generation: {generated_tokens} tokens, {:.1} tokens/s{memory}; \
         seed {seed}",
        report.prompt_tokens_per_second, report.generation_tokens_per_second
    )
}
