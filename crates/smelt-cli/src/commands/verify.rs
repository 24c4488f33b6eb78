//! `smelt verify`: runs a model against the outputs of a reference implementation.
//!
//! Reads folders in the layout of `golden/`; the `kind` in `meta.json` decides which checks there are.
//! What no check reads is a failure that says so, so that a green table means that all was compared.

mod adapters;
mod against;
mod causal;
mod chat_template;
mod checks;
mod gguf;
mod golden;
mod mlx;
mod sampling;
mod tokenizer;
mod training;

use std::path::{Path, PathBuf};

use clap::Args;
use smelt_backend::{Name, dispatch};
use smelt_model::weights::TensorFile;

use self::causal::CausalJob;
use self::checks::{Check, Checks};
use self::gguf::GgufJob;
use self::golden::{Golden, read_meta};
use self::training::TrainingJob;
use crate::config::BackendSection;
use crate::context::Context;
use crate::error::CliError;
use crate::table::{Align, render};

const EXAMPLES: &str = "\
Examples:
  smelt verify tests/golden/gpt2
  smelt verify tests/golden/* --backend ndarray
  smelt verify --model model-q8_0.gguf --against models/llama --prompts prompts.jsonl --tolerance 0.05";

/// Files of a model's reference folder that some check reads.
const KNOWN_FILES: [&str; 11] = [
    adapters::GOLDEN_FILE,
    mlx::GOLDEN_FILE,
    gguf::GOLDEN_FILE,
    training::ADAPTER_FOLDER,
    "config.json",
    "config_v5.json",
    "golden.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// How the names of sharded weights begin and end.
const SHARDS: [(&str, &str); 2] = [("model-", ".safetensors"), ("pytorch_model-", ".bin")];

/// Arguments of `smelt verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// Folders of a model with `golden.safetensors` and `meta.json`
    #[arg(value_name = "FOLDER", required_unless_present = "model")]
    pub folders: Vec<PathBuf>,
    /// Compare this model with another: folder, GGUF file, hub id or run
    #[arg(long, value_name = "DIR", requires = "against", conflicts_with = "folders")]
    pub model: Option<PathBuf>,
    /// The model that `--model` is compared with
    #[arg(long, value_name = "DIR", requires = "model")]
    pub against: Option<PathBuf>,
    /// Prompts to compare on, one per line, as text or as `{"prompt": ...}` [default: a few of our own]
    #[arg(long, value_name = "FILE", requires = "model")]
    pub prompts: Option<PathBuf>,
    /// How far logits may lie apart, as a share of their spread
    #[arg(long, value_name = "SHARE", default_value_t = 1e-4, requires = "model")]
    pub tolerance: f64,
}

pub fn run(args: &VerifyArgs, context: &Context) -> Result<(), CliError> {
    if let (Some(model), Some(against)) = (&args.model, &args.against) {
        return against::run(args, model, against, context);
    }
    let selection = context.select(&BackendSection::default(), None)?;
    let mut rows = Vec::new();
    for folder in &args.folders {
        if context.interrupt.requested() {
            return Err(CliError::Interrupted { hint: None });
        }
        let mut checks = Checks::new(folder);
        if let Err(error) = verify(folder, selection.name, &mut checks) {
            checks.fail_with("load", &error);
        }
        for row in &checks.rows {
            context.output.record(row)?;
        }
        rows.append(&mut checks.rows);
    }
    context.output.line(&table(&rows))?;
    let failed = rows.iter().filter(|row| !row.passed).count();
    match failed {
        0 => context.output.line(&format!("\nall {} checks passed", rows.len())),
        _ => Err(CliError::ChecksFailed { failed, total: rows.len() }),
    }
}

fn verify(folder: &Path, backend: Name, checks: &mut Checks) -> Result<(), CliError> {
    let meta = read_meta(folder)?;
    let kind = meta["kind"].as_str().map(str::to_owned);
    let known: &[&str] = match kind.as_deref() {
        Some("tokenizer") => &tokenizer::FILES,
        Some("chat_template") => &chat_template::FILES,
        Some("sampling") => &sampling::FILES,
        _ => &KNOWN_FILES,
    };
    checks.unread("file", unknown_files(folder, known)?);
    match kind.as_deref() {
        Some("tokenizer") => tokenizer::verify(folder, checks),
        Some("chat_template") => chat_template::verify(folder, checks),
        Some("sampling") => sampling::verify(&Golden::open(folder, meta)?, checks),
        Some("causal") => {
            let golden = Golden::open(folder, meta)?;
            dispatch(backend, CausalJob { golden: &golden, checks })?;
            dispatch(backend, GgufJob { golden: &golden, checks })
        }
        Some("training") => {
            let golden = Golden::open(folder, meta)?;
            dispatch(backend, TrainingJob { golden: &golden, checks })
        }
        Some(kind) => {
            checks.fail(&format!("kind {kind}"), "not supported yet");
            Ok(())
        }
        None => {
            checks.fail("kind", "`meta.json` has no `kind`");
            Ok(())
        }
    }
}

/// What lies in `folder` beside `meta.json` and the files `known` to the checks of its kind.
fn unknown_files(folder: &Path, known: &[&str]) -> Result<Vec<String>, CliError> {
    let failed = |source| CliError::Io { action: "read", path: folder.to_owned(), source };
    let quantized = folder.join(mlx::GOLDEN_FILE);
    let quantized = quantized.exists().then(|| TensorFile::open(&quantized)).transpose()?;
    let quantized = quantized.as_ref().map(mlx::tags).unwrap_or_default();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let shard = SHARDS.iter().any(|(start, end)| name.starts_with(start) && name.ends_with(end));
        // The checks of a base with adapters say which they know.
        let adapter = name.starts_with("adapter") && folder.join(adapters::GOLDEN_FILE).exists();
        // So do those of GGUF files.
        let gguf = name.ends_with(".gguf") && folder.join(gguf::GOLDEN_FILE).exists();
        let read = shard || adapter || gguf || quantized.contains(name.as_str());
        if !read && name != "meta.json" && !known.contains(&name.as_str()) {
            names.push(name);
        }
    }
    Ok(names)
}

fn table(rows: &[Check]) -> String {
    let columns = [
        ("folder", Align::Left),
        ("check", Align::Left),
        ("largest error", Align::Right),
        ("tolerance", Align::Right),
        ("result", Align::Left),
        ("note", Align::Left),
    ];
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1e}"));
    let row = |row: &Check| {
        vec![
            row.folder.display().to_string(),
            row.check.clone(),
            number(row.error),
            number(row.tolerance),
            if row.passed { "pass" } else { "FAIL" }.to_owned(),
            row.note.clone().unwrap_or_default(),
        ]
    };
    render(&columns, &rows.iter().map(row).collect::<Vec<_>>())
}
