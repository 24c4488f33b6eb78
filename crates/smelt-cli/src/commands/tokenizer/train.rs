//! `smelt tokenizer train`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use smelt_text::{BpeTraining, TOKENIZER_FILE, TextError, TrainingProgress, train_byte_level_bpe_watched};

use super::texts::Texts;
use crate::context::Context;
use crate::error::CliError;
use crate::progress::{Progress, Unit};
use crate::quantity;

const EXAMPLES: &str = "\
Examples:
  smelt tokenizer train --input ~/scripts /usr/share/doc --output tokenizer
  zcat corpus.gz | smelt tokenizer train --input - --output tokenizer --vocab-size 50000";

/// Arguments of `smelt tokenizer train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// Text files, `.jsonl` with a `text` per line, folders of them, or `-` for stdin
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// Folder for `tokenizer.json` and `tokenizer_config.json`
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Entries, bytes and special tokens among them
    #[arg(long, value_name = "N", default_value_t = BpeTraining::default().vocab_size)]
    vocab_size: usize,
    /// A pair seen less often is never joined
    #[arg(long, value_name = "N", default_value_t = BpeTraining::default().min_frequency)]
    min_frequency: u64,
    /// Special tokens, in id order from 0
    #[arg(long, value_name = "TOKEN", num_args = 1.., default_values_t = BpeTraining::default().special_tokens)]
    special_tokens: Vec<String>,
    /// Replace the tokenizer that is there
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Serialize)]
struct Trained {
    output: PathBuf,
    vocab_size: usize,
    text_bytes: u64,
    skipped_files: usize,
    elapsed_seconds: f64,
    megabytes_per_second: f64,
    sha256: String,
}

pub fn run(args: &TrainArgs, context: &Context) -> Result<(), CliError> {
    let start = Instant::now();
    let failed = |action| move |source| CliError::Io { action, path: args.output.clone(), source };
    std::fs::create_dir_all(&args.output).map_err(failed("create"))?;
    if args.output.join(TOKENIZER_FILE).exists() && !args.overwrite {
        return Err(CliError::Usage {
            message: format!("`{}` already holds a tokenizer", args.output.display()),
            hint: "give another `--output`, or replace it with `--overwrite`".to_owned(),
        });
    }
    let training = BpeTraining {
        vocab_size: args.vocab_size,
        min_frequency: args.min_frequency,
        special_tokens: args.special_tokens.clone(),
    };
    let mut texts = Texts::open(&args.input)?;
    let progress = Progress::start(context.output, "reading", Unit::Bytes, texts.total_bytes(), 0);
    let outcome = train_byte_level_bpe_watched(&mut texts, &training, |at| {
        show(&progress, at);
        context.interrupt.flow()
    });
    drop(progress);
    let tokenizer = match outcome {
        Err(TextError::Stopped) => return Err(CliError::Interrupted { hint: None }),
        outcome => outcome?,
    };
    let read = texts.finish()?;
    if args.overwrite {
        // What it says of special tokens belongs to the tokenizer before.
        match std::fs::remove_file(args.output.join(smelt_text::TOKENIZER_CONFIG_FILE)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("replace")(source));
            }
            _ => {}
        }
    }
    tokenizer.save_folder(&args.output)?;
    let elapsed_seconds = start.elapsed().as_secs_f64();
    let trained = Trained {
        output: args.output.clone(),
        vocab_size: tokenizer.vocab_size(),
        text_bytes: read.bytes,
        skipped_files: read.skipped_files,
        elapsed_seconds,
        megabytes_per_second: read.bytes as f64 / 1e6 / elapsed_seconds,
        sha256: tokenizer.sha256(),
    };
    context.output.record(&trained)?;
    context.output.line(&page(&trained))
}

fn show(progress: &Progress, at: TrainingProgress) {
    match at {
        TrainingProgress::Reading { bytes, words } => {
            progress.advance(bytes, || format!("{} words", quantity::count(words as u64)));
        }
        TrainingProgress::Merging { entries, vocab_size } if entries % 256 == 0 => {
            progress.message(|| format!("{entries} of {vocab_size} entries"));
        }
        TrainingProgress::Merging { .. } => {}
    }
}

fn page(trained: &Trained) -> String {
    let skipped = match trained.skipped_files {
        0 => String::new(),
        files => format!(" ({files} files skipped that are not text)"),
    };
    format!(
        "{} entries from {} of text in {:.1} s, {:.1} MB/s{skipped}\nsaved to {}",
        trained.vocab_size,
        quantity::bytes(trained.text_bytes),
        trained.elapsed_seconds,
        trained.megabytes_per_second,
        trained.output.display(),
    )
}
