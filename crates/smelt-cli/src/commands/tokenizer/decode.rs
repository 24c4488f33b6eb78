//! `smelt tokenizer decode`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{load, read_stdin};
use crate::context::Context;
use crate::error::CliError;

const EXAMPLES: &str = "\
Examples:
  smelt tokenizer decode --tokenizer runs/quickstart 17 203 9
  smelt tokenizer decode --tokenizer tokenizer < ids.txt";

/// Arguments of `smelt tokenizer decode`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DecodeArgs {
    /// Folder or file of the tokenizer
    #[arg(long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// Token ids [default: those on stdin, between blanks or commas]
    #[arg(value_name = "ID")]
    ids: Vec<u32>,
    /// Spell special tokens out
    #[arg(long)]
    special_tokens: bool,
}

#[derive(Debug, Serialize)]
struct Decoded {
    text: String,
}

pub fn run(args: &DecodeArgs, context: &Context) -> Result<(), CliError> {
    let tokenizer = load(&args.tokenizer)?;
    let ids = if args.ids.is_empty() { parse(&read_stdin()?)? } else { args.ids.clone() };
    if let Some(id) = ids.iter().find(|&&id| tokenizer.id_to_token(id).is_none()) {
        return Err(CliError::Usage {
            message: format!("the tokenizer has no token of id {id}"),
            hint: format!("its ids are below {}", tokenizer.vocab_size()),
        });
    }
    let text = match args.special_tokens {
        true => tokenizer.decode_with_special_tokens(&ids)?,
        false => tokenizer.decode(&ids)?,
    };
    context.output.line(&text)?;
    context.output.record(&Decoded { text })
}

fn parse(text: &str) -> Result<Vec<u32>, CliError> {
    let words = text.split(|next: char| next.is_whitespace() || ",[]".contains(next));
    let parse = |word: &str| {
        word.parse().map_err(|_| CliError::Usage {
            message: format!("`{word}` is not a token id"),
            hint: "give whole numbers between blanks or commas".to_owned(),
        })
    };
    words.filter(|word| !word.is_empty()).map(parse).collect()
}
