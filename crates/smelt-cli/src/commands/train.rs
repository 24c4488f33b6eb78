//! `smelt train`: trains a model from scratch or from weights.

mod dashboard;
mod report;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use self::report::{Reporter, View};
use crate::config::{Method, RunConfig};
use crate::context::Context;
use crate::error::CliError;
use crate::folders::RUN_CONFIG;
use crate::hub::localize;
use crate::model_source::weights_folder;
use crate::quantity::ByteSize;
use crate::resolve::{FlagSetting, Sources, resolve, run_folder};
use crate::training::{Start, train};

const EXAMPLES: &str = "\
Examples:
  smelt train                                        the quick start, into runs/quickstart
  smelt train --resume auto                          continue it
  smelt train --tui                                  watch it
  smelt train --data ~/scripts --output runs/mine    your own text, the quick start's model
  smelt train --config configs/tiny.yaml --data ~/scripts --set train.weight_decay=0
  smelt train --model gpt2 --data ~/scripts --learning-rate 5e-5
  smelt train --model ~/models/llama --data chats --method qlora --q-bits 4    an adapter on a model in 4 bits
  smelt train --model qwen --data chats --mask-prompt    chats/train.jsonl: conversations to learn the answers of";

/// Arguments of `smelt train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// Run config in YAML [default: the embedded quick start]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set any key of the config
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Start from the weights of a model folder
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Files and folders of text, or one prepared folder, or one folder of instruction data
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Folder of the run [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Continue from a checkpoint; `auto` takes the newest of the run, or starts it
    #[arg(long, value_name = "DIR|auto")]
    pub resume: Option<PathBuf>,
    /// Replace the run that is in the output folder
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Measure where the time goes: a table by phase and kernel at the end, and a trace in the run's folder
    #[arg(long)]
    pub profile: bool,
    /// Show the run as a dashboard over the whole terminal
    #[arg(long, conflicts_with = "quiet")]
    pub tui: bool,
    /// The settings that have a flag of their own.
    #[command(flatten)]
    pub settings: TrainSettings,
}

/// Flags that set keys of the run config.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings (they override the config)")]
pub struct TrainSettings {
    /// What is trained
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Sequences per micro-batch
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Tokens per sequence
    #[arg(long, value_name = "N")]
    pub seq_length: Option<usize>,
    /// Optimizer steps
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Steps over which the learning rate rises
    #[arg(long, value_name = "N")]
    pub warmup_steps: Option<u64>,
    /// Highest learning rate
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Course of the learning rate after the warm-up
    #[arg(long, value_parser = ["linear", "cosine", "wsd", "constant"])]
    pub lr_schedule: Option<String>,
    /// What updates the weights
    #[arg(long, value_parser = ["adamw", "adamw_8bit", "adafactor", "lion", "muon", "sgd"])]
    pub optimizer: Option<String>,
    /// Micro-batches per optimizer step
    #[arg(long, value_name = "N")]
    pub gradient_accumulation: Option<usize>,
    /// Rank of the adapter
    #[arg(long, value_name = "N")]
    pub lora_rank: Option<usize>,
    /// With `qlora`, bits of a weight of the model below the adapter [default: 4]
    #[arg(long, value_name = "N")]
    pub q_bits: Option<u64>,
    /// With `qlora`, weights that share a scale [default: 64]
    #[arg(long, value_name = "N")]
    pub q_group_size: Option<u64>,
    /// Scale of the adapter, over its rank [default: twice the rank]
    #[arg(long, value_name = "X")]
    pub lora_alpha: Option<f64>,
    /// Dropout on what enters the adapter
    #[arg(long, value_name = "X")]
    pub lora_dropout: Option<f64>,
    /// Modules to adapt by name, such as q_proj,v_proj [default: all projections of all blocks]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub target_modules: Vec<String>,
    /// Run each block again for its gradients instead of keeping what it computed: less memory, more time
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Refuse to start if training would take more memory
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<ByteSize>,
    /// Number format of the computation
    #[arg(long, value_parser = ["f32", "bf16", "f16"])]
    pub precision: Option<String>,
    /// Steps between evaluations
    #[arg(long, value_name = "N")]
    pub eval_interval: Option<u64>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N")]
    pub save_interval: Option<u64>,
    /// Checkpoints to keep
    #[arg(long, value_name = "N")]
    pub keep_last: Option<usize>,
    /// Steps between reports
    #[arg(long, value_name = "N")]
    pub log_interval: Option<u64>,
    /// Part of the documents held out for validation
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub val_split: Option<f64>,
    /// Of instruction data, learn the answers alone
    #[arg(long)]
    pub mask_prompt: bool,
    /// Leave out and count lines of instruction data that are no records
    #[arg(long)]
    pub skip_bad_lines: bool,
    /// Seed of weights, data order and dropout
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

pub fn run(args: &TrainArgs, context: &Context) -> Result<(), CliError> {
    let (mut config, start) = plan(args)?;
    localize(&mut config, context)?;
    if let Some(name) = &context.backend {
        config.backend.name.clone_from(name);
    }
    let mut reporter = Reporter::new(context, &config, if args.tui { View::Dashboard } else { View::Lines });
    let trained = train(&config, &start, &mut |event| reporter.tell(&event));
    reporter.finish()?;
    let summary = match trained {
        Err(CliError::Interrupted { hint }) => return report::stopped_early(hint, context),
        trained => trained?,
    };
    if let Some(profile) = &context.profile {
        report::profile(profile, &summary.run, context)?;
    }
    if summary.interrupted {
        return report::stopped(&summary, context);
    }
    report::result(&summary, &config, context)
}

/// The config and the beginning of the run that the arguments ask for.
fn plan(args: &TrainArgs) -> Result<(RunConfig, Start), CliError> {
    let mut sources = Sources { config: args.config.as_deref(), sets: &args.sets, flags: flags(args) };
    let start = match args.resume.as_deref() {
        None if args.overwrite => Start::Overwrite,
        None => Start::Fresh,
        Some(path) if path == Path::new("auto") => Start::Continue,
        Some(path) => resume_from(path, args, &mut sources)?,
    };
    // A run continues with the config that it was started with.
    let continues = !matches!(start, Start::Fresh | Start::Overwrite) && args.config.is_none();
    let run = if continues { run_folder(&sources)? } else { None };
    let saved = run.map(|run| run.join(RUN_CONFIG)).filter(|path| path.is_file());
    let config = match &saved {
        Some(path) => resolve(&Sources { config: Some(path), ..sources })?,
        None => resolve(&sources)?,
    };
    Ok((config, start))
}

/// A checkpoint belongs to the run around it, and the folder of a run stands for its newest checkpoint.
fn resume_from(path: &Path, args: &TrainArgs, sources: &mut Sources<'_>) -> Result<Start, CliError> {
    let (run, start) = match path.join(RUN_CONFIG).is_file() {
        true => (Some(path), Start::Continue),
        false => (path.parent().and_then(Path::parent), Start::From(weights_folder(path)?)),
    };
    if let Some(run) = run.filter(|_| args.output.is_none()) {
        sources.flags.push(output_flag(run, "--resume"));
    }
    Ok(start)
}

fn output_flag(run: &Path, flag: &'static str) -> FlagSetting {
    FlagSetting { section: "checkpoint", key: "output_dir", value: json(run), flag }
}

/// `--model`, of whatever command trains.
pub fn model_flag(folder: &Path) -> FlagSetting {
    FlagSetting { section: "model", key: "path", value: json(folder), flag: "--model" }
}

fn flags(args: &TrainArgs) -> Vec<FlagSetting> {
    let mut flags = args.settings.given();
    flags.extend(args.model.as_deref().map(model_flag));
    if !args.data.is_empty() {
        flags.push(FlagSetting { section: "data", key: "paths", value: json(&args.data), flag: "--data" });
    }
    if let Some(run) = &args.output {
        flags.push(output_flag(run, "--output"));
    }
    flags
}

impl TrainSettings {
    /// One that is no plain name is a pattern.
    fn target_modules(&self) -> Option<Value> {
        match self.target_modules.as_slice() {
            [] => None,
            [one] if !one.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => Some(json(one)),
            names => Some(json(names)),
        }
    }

    /// The flags that were given, as keys of the config.
    pub fn given(&self) -> Vec<FlagSetting> {
        let rows: [(&'static str, &'static str, &'static str, Option<Value>); 26] = [
            ("--method", "train", "method", self.method.map(json)),
            ("--batch-size", "train", "batch_size", self.batch_size.map(json)),
            ("--seq-length", "train", "seq_length", self.seq_length.map(json)),
            ("--max-steps", "train", "max_steps", self.max_steps.map(json)),
            ("--warmup-steps", "train", "warmup_steps", self.warmup_steps.map(json)),
            ("--learning-rate", "train", "learning_rate", self.learning_rate.map(json)),
            ("--lr-schedule", "train", "lr_schedule", self.lr_schedule.as_ref().map(json)),
            ("--optimizer", "train", "optimizer", self.optimizer.as_ref().map(json)),
            (
                "--gradient-accumulation",
                "train",
                "gradient_accumulation_steps",
                self.gradient_accumulation.map(json),
            ),
            ("--lora-rank", "adapter", "r", self.lora_rank.map(json)),
            ("--q-bits", "quantization", "bits", self.q_bits.map(json)),
            ("--q-group-size", "quantization", "group_size", self.q_group_size.map(json)),
            ("--lora-alpha", "adapter", "lora_alpha", self.lora_alpha.map(json)),
            ("--lora-dropout", "adapter", "lora_dropout", self.lora_dropout.map(json)),
            ("--target-modules", "adapter", "target_modules", self.target_modules()),
            (
                "--gradient-checkpointing",
                "train",
                "gradient_checkpointing",
                self.gradient_checkpointing.then(|| json(true)),
            ),
            ("--memory-limit", "train", "memory_limit", self.memory_limit.map(json)),
            ("--precision", "train", "precision", self.precision.as_ref().map(json)),
            ("--eval-interval", "train", "eval_interval", self.eval_interval.map(json)),
            ("--save-interval", "checkpoint", "save_interval", self.save_interval.map(json)),
            ("--keep-last", "checkpoint", "keep_last", self.keep_last.map(json)),
            ("--log-interval", "log", "log_interval", self.log_interval.map(json)),
            ("--val-split", "data", "val_split", self.val_split.map(json)),
            ("--mask-prompt", "data", "mask_prompt", self.mask_prompt.then(|| json(true))),
            ("--skip-bad-lines", "data", "skip_bad_lines", self.skip_bad_lines.then(|| json(true))),
            ("--seed", "train", "seed", self.seed.map(json)),
        ];
        rows.into_iter()
            .filter_map(|(flag, section, key, value)| Some(FlagSetting { section, key, value: value?, flag }))
            .collect()
    }
}

fn json(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("a flag is plain data")
}
