//! `smelt generate`: completes a prompt, the lines of a file, or what is typed.

mod batch;
mod beams;
mod flags;
mod interactive;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

pub use self::flags::{ModelFlags, SamplingFlags};
pub use self::interactive::show;
use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::generation::{Generation, TextReport, TextRequest};
use crate::quantity::bytes;

const EXAMPLES: &str = "\
Examples:
  smelt generate --prompt '#!/usr/bin/env bash'
  smelt generate --model ~/models/gpt2 --prompt 'The moon is' --max-tokens 50 --temperature 0
  head -5 script.sh | smelt generate --prompt - --seed 7
  smelt generate --model ~/models/qwen --prompts questions.jsonl --output answers.jsonl
  smelt generate --model ~/models/qwen --prompt 'A person:' --json-schema person.json";

/// What beams, which follow whole tokens in caches of their own, do not do.
const NOT_WITH_BEAMS: [&str; 9] = [
    "interactive",
    "prompts",
    "best_of",
    "json_schema",
    "stop",
    "kv_bits",
    "draft_model",
    "prompt_lookup",
    "prompt_cache",
];

/// Arguments of `smelt generate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelFlags,
    /// Text to complete, or `-` to read it from stdin [default: the start of a text]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Complete what is typed, line by line
    #[arg(long, conflicts_with_all = ["prompt", "prompts"])]
    interactive: bool,
    /// JSON lines with a `prompt` or `messages` each
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", requires = "output")]
    prompts: Option<PathBuf>,
    /// File for the completions of `--prompts`, in their order; what it has already is not done again
    #[arg(long, value_name = "FILE", requires = "prompts")]
    output: Option<PathBuf>,
    /// Prompts of `--prompts` that run at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Begin `--output` anew
    #[arg(long, requires = "prompts")]
    overwrite: bool,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// Follow this many sequences and take the likeliest, without randomness
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = NOT_WITH_BEAMS)]
    num_beams: Option<u16>,
    /// With `--num-beams`: above 0 favours long sequences
    #[arg(
        long,
        value_name = "X",
        default_value_t = 1.0,
        allow_negative_numbers = true,
        requires = "num_beams"
    )]
    length_penalty: f64,
    /// Draw this many texts and take the likeliest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = ["interactive", "prompts"])]
    best_of: Option<u16>,
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
    let request = args.model.request(&args.sampling, args.max_tokens, context)?;
    request.sampling.validate()?;
    if let (Some(prompts), Some(output)) = (&args.prompts, &args.output) {
        let files = batch::Files { prompts, output, overwrite: args.overwrite };
        return batch::run(&request, &files, args.batch_size.into(), context);
    }
    if args.interactive {
        return interactive::run(&request, context);
    }
    let request = TextRequest { prompt: prompt(args)?, ..request };
    match (args.num_beams, args.best_of) {
        (Some(beams), _) => beams::run(&request, beams.into(), args.length_penalty, context),
        (None, Some(texts)) => beams::best_of(&request, texts.into(), context),
        (None, None) => single(&request, context),
    }
}

fn single(request: &TextRequest, context: &Context) -> Result<(), CliError> {
    let generation = Generation::prepare(request)?;
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
    finish(request, &report, context)?;
    if context.interrupt.requested() { Err(CliError::Interrupted { hint: None }) } else { Ok(()) }
}

/// The record of a text, and the line on its speed.
fn finish(request: &TextRequest, report: &TextReport, context: &Context) -> Result<(), CliError> {
    let seed = request.sampling.seed;
    context.output.record(&Record { prompt: request.prompt.as_deref(), seed, report })?;
    context.output.note(&format!("{}; seed {seed}", summary(report)));
    Ok(())
}

fn prompt(args: &GenerateArgs) -> Result<Option<String>, CliError> {
    let prompt = match args.prompt.as_deref() {
        Some("-") => Some(io::read_to_string(io::stdin()).map_err(|source| CliError::Io {
            action: "read",
            path: PathBuf::from("stdin"),
            source,
        })?),
        prompt => prompt.map(str::to_owned),
    };
    Ok(prompt.filter(|text| !text.is_empty()))
}

/// How fast a text was, and what memory it took.
pub fn summary(report: &TextReport) -> String {
    let TextReport { prompt_tokens, cached_tokens, generated_tokens, .. } = *report;
    let kept = if cached_tokens > 0 { format!(" ({cached_tokens} kept)") } else { String::new() };
    let acceptance = report.draft_acceptance;
    let guesses =
        acceptance.map_or(String::new(), |share| format!(", {:.0} % of guesses right", 100.0 * share));
    let memory =
        report.peak_memory_bytes.map_or(String::new(), |peak| format!("; peak memory {}", bytes(peak)));
    format!(
        "prompt: {prompt_tokens} tokens{kept}, {:.1} tokens/s; generation: {generated_tokens} tokens, \
         {:.1} tokens/s{guesses}{memory}",
        report.prompt_tokens_per_second, report.generation_tokens_per_second
    )
}
