//! `smelt tokenizer`: learns a tokenizer, and turns text into ids and back.

mod decode;
mod encode;
mod texts;
mod train;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use smelt_convert::gguf::is_gguf;
use smelt_text::Tokenizer;

use crate::context::Context;
use crate::error::CliError;
use crate::model_files;

const EXAMPLES: &str = "\
Examples:
  smelt tokenizer train --input ~/scripts /usr/share/doc --output tokenizer
  smelt tokenizer encode --tokenizer tokenizer 'echo hello'
  smelt tokenizer encode --tokenizer tokenizer < script.sh | smelt tokenizer decode --tokenizer tokenizer";

/// Arguments of `smelt tokenizer`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokenizerArgs {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(Debug, Subcommand)]
enum TokenizerCommand {
    /// Learn a byte-level BPE vocabulary from text
    Train(train::TrainArgs),
    /// Turn text into token ids
    Encode(encode::EncodeArgs),
    /// Turn token ids into text
    Decode(decode::DecodeArgs),
}

pub fn run(args: &TokenizerArgs, context: &Context) -> Result<(), CliError> {
    match &args.command {
        TokenizerCommand::Train(args) => train::run(args, context),
        TokenizerCommand::Encode(args) => encode::run(args, context),
        TokenizerCommand::Decode(args) => decode::run(args, context),
    }
}

/// The tokenizer in a folder, a GGUF file or a file of its own.
fn load(path: &Path) -> Result<Tokenizer, CliError> {
    if path.is_dir() || is_gguf(path) {
        return model_files::tokenizer(path);
    }
    Ok(Tokenizer::from_file(path)?)
}

fn read_stdin() -> Result<String, CliError> {
    io::read_to_string(io::stdin()).map_err(|source| CliError::Io {
        action: "read",
        path: PathBuf::from("stdin"),
        source,
    })
}
