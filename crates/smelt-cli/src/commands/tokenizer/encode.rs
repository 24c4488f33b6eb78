//! `smelt tokenizer encode`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{load, read_stdin};
use crate::context::Context;
use crate::error::CliError;

const EXAMPLES: &str = "\
Examples:
  smelt tokenizer encode --tokenizer runs/quickstart 'echo hello'
  smelt tokenizer encode --tokenizer tokenizer.model --json - < text.txt";

/// Arguments of `smelt tokenizer encode`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EncodeArgs {
    /// Folder or file of the tokenizer
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// Text to encode, or `-` to read it from stdin
    #[arg(value_name = "TEXT", default_value = "-")]
    text: String,
    /// Add what the tokenizer puts around a text, such as a begin-of-sequence token
    #[arg(long)]
    special_tokens: bool,
}

#[derive(Debug, Serialize)]
struct Encoded {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

pub fn run(args: &EncodeArgs, context: &Context) -> Result<(), CliError> {
    let tokenizer = load(&args.tokenizer)?;
    let text = if args.text == "-" { read_stdin()? } else { args.text.clone() };
    let ids = match args.special_tokens {
        true => tokenizer.encode_with_special_tokens(&text)?,
        false => tokenizer.encode(&text)?,
    };
    let words: Vec<String> = ids.iter().map(u32::to_string).collect();
    context.output.line(&words.join(" "))?;
    let tokens = ids.iter().map(|&id| tokenizer.id_to_token(id).unwrap_or_default()).collect();
    context.output.record(&Encoded { ids, tokens })
}
