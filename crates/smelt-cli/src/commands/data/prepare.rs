//! `smelt data prepare`: turns text, code or records into a tokenizer and token shards.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use smelt_data::{
    DataError, Dedup, FileKind, Input, OnBadLine, OnInvalidUtf8, PrepareOptions, PrepareProgress, Recipe,
    SizeLimits, prepare,
};

use super::report;
use crate::context::Context;
use crate::error::CliError;
use crate::progress::{Progress, Unit};
use crate::quantity::{bytes, count};

const EXAMPLES: &str = "\
Examples:
  smelt data prepare --input /usr/share/doc --output data/doc
  smelt data prepare --input ~/scripts 'more/**/*.sh' --output data/bash --recipe bash --scrub-secrets
  smelt data prepare --input part-*.parquet --text-field content --output data/web --recipe prose
  zcat dump.jsonl.gz | smelt data prepare --input - --output data/dump --tokenizer ~/models/gpt2

Run the same command again after an interruption: it goes on where it stopped, and gives the same files.";

/// Arguments of `smelt data prepare`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PrepareArgs {
    /// Files, folders and patterns; `-` is standard input
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// What to take: all text, English prose, or bash scripts
    #[arg(long, value_enum, default_value = "any")]
    pub recipe: RecipeName,
    /// How the text is tokenized.
    #[command(flatten)]
    pub tokens: TokenArgs,
    /// What is read and left out.
    #[command(flatten)]
    pub choice: ChoiceArgs,
}

/// Flags that decide how the text is tokenized and split.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tokens")]
pub struct TokenArgs {
    /// Entries of the tokenizer to train
    #[arg(long, value_name = "N", default_value_t = 32_000)]
    pub vocab_size: usize,
    /// Use the tokenizer of a folder, or a `tokenizer.json`
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Use the tokenizer that an earlier preparation left in the output folder
    #[arg(long, conflicts_with = "tokenizer")]
    pub reuse_tokenizer: bool,
    /// Tokens per sequence that the data is for; fewer tokens in all are refused
    #[arg(long, value_name = "N")]
    pub seq_length: Option<usize>,
    /// Part of the documents held out for validation
    #[arg(long, value_name = "X", default_value_t = 0.05, allow_negative_numbers = true)]
    pub val_split: f64,
    /// Chooses the documents that are held out
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Flags that decide what is read and left out.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is read and left out")]
pub struct ChoiceArgs {
    /// Copies to remove: exact ones, near ones too, or none
    #[arg(long, value_enum, default_value = "near")]
    pub dedup: DedupName,
    /// Replace keys, tokens, passwords and e-mail addresses
    #[arg(long)]
    pub scrub_secrets: bool,
    /// Field of a JSON record, or column of a table, that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// Kinds of files to take out of folders: shell, code, prose, data, other [default: the recipe's]
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<FileKind>,
    /// Leave shorter documents out [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub min_bytes: Option<u64>,
    /// Leave longer documents out [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub max_bytes: Option<u64>,
    /// Text that is not UTF-8: leave it out, read it as Latin-1, or replace what is wrong
    #[arg(long, value_enum, default_value = "skip")]
    pub invalid_utf8: InvalidUtf8Name,
    /// Count bad records and damaged files instead of stopping
    #[arg(long)]
    pub skip_bad_lines: bool,
}

/// A recipe, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RecipeName {
    /// All text but generated and minified code
    Any,
    /// English prose, by the rules of Gopher and C4
    Prose,
    /// Bash scripts that parse, with their comments
    Bash,
}

/// Which copies to remove, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DedupName {
    /// The same bytes
    Exact,
    /// The same bytes, or four fifths of the runs of five words
    Near,
    /// None
    None,
}

/// What to do about text that is not UTF-8, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum InvalidUtf8Name {
    /// Leave it out
    Skip,
    /// Read it as Latin-1
    Latin1,
    /// Replace what is wrong
    Replace,
}

pub fn run(args: &PrepareArgs, context: &Context) -> Result<(), CliError> {
    let inputs: Vec<Input> = args.input.iter().map(|typed| Input::from_typed(typed)).collect();
    let mut stages = Stages { context, bar: None, stage: "" };
    let outcome = prepare(&inputs, &args.output, &options(args), &mut |progress| stages.tell(progress));
    stages.bar = None;
    let done = outcome.map_err(|error| match error {
        DataError::Interrupted => {
            CliError::Interrupted { hint: Some("the same command goes on where this one stopped".to_owned()) }
        }
        error => error.into(),
    })?;
    context.output.record(&report::record(&done))?;
    context.output.line(&report::page(&done))
}

fn options(args: &PrepareArgs) -> PrepareOptions {
    let (tokens, choice) = (&args.tokens, &args.choice);
    let mut options = PrepareOptions::of_recipe(match args.recipe {
        RecipeName::Any => Recipe::Any,
        RecipeName::Prose => Recipe::Prose,
        RecipeName::Bash => Recipe::Bash,
    });
    if !choice.kinds.is_empty() {
        options.read.kinds.clone_from(&choice.kinds);
    }
    options.read.text_field.clone_from(&choice.text_field);
    options.read.invalid_utf8 = match choice.invalid_utf8 {
        InvalidUtf8Name::Skip => OnInvalidUtf8::Skip,
        InvalidUtf8Name::Latin1 => OnInvalidUtf8::Latin1,
        InvalidUtf8Name::Replace => OnInvalidUtf8::Replace,
    };
    options.read.bad_input = if choice.skip_bad_lines { OnBadLine::Skip } else { OnBadLine::Fail };
    let SizeLimits { min_bytes, max_bytes } = options.sizes;
    options.sizes = SizeLimits {
        min_bytes: choice.min_bytes.unwrap_or(min_bytes),
        max_bytes: choice.max_bytes.unwrap_or(max_bytes),
    };
    options.dedup = match choice.dedup {
        DedupName::Exact => Dedup::Exact,
        DedupName::Near => Dedup::Near,
        DedupName::None => Dedup::None,
    };
    let reused = tokens.reuse_tokenizer.then(|| args.output.clone());
    PrepareOptions {
        scrub_secrets: choice.scrub_secrets,
        vocab_size: tokens.vocab_size,
        tokenizer: tokens.tokenizer.clone().or(reused),
        val_fraction: tokens.val_split,
        seed: tokens.seed,
        seq_length: tokens.seq_length,
        ..options
    }
}

/// Shows how far the preparation is.
struct Stages<'a> {
    context: &'a Context,
    bar: Option<Progress>,
    stage: &'static str,
}

impl Stages<'_> {
    fn tell(&mut self, progress: PrepareProgress<'_>) -> ControlFlow<()> {
        match progress {
            PrepareProgress::Resumed { tally } => {
                let (documents, size) = (tally.read_documents, bytes(tally.read_bytes));
                self.note(&format!("going on after {documents} documents, {size}"));
            }
            PrepareProgress::Reading { passed_bytes, total_bytes, kept_documents, text_bytes } => {
                let message = || format!("{} documents, {}", count(kept_documents), bytes(text_bytes));
                self.bar("read", total_bytes).advance(passed_bytes, message);
            }
            PrepareProgress::Sifted { tally } => {
                self.bar = None;
                let (kept, read) = (tally.kept_documents, tally.read_documents);
                self.note(&format!("kept {kept} of {read} documents, {}", bytes(tally.kept_bytes)));
            }
            PrepareProgress::TrainingTokenizer { text_bytes } => {
                self.note(&format!("training a tokenizer on {}", bytes(text_bytes)));
            }
            PrepareProgress::Encoding { done_bytes, total_bytes, tokens } => {
                self.bar("tokenize", total_bytes).advance(done_bytes, || format!("{} tokens", count(tokens)));
            }
        }
        self.context.interrupt.flow()
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.line(text),
            None => self.context.output.note(text),
        }
    }

    fn bar(&mut self, stage: &'static str, total_bytes: u64) -> &Progress {
        if self.stage != stage {
            self.bar = None;
            self.stage = stage;
        }
        let output = self.context.output;
        self.bar.get_or_insert_with(|| Progress::start(output, stage, Unit::Bytes, total_bytes, 0))
    }
}
