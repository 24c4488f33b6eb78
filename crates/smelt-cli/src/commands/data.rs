//! `smelt data`: what has to do with data sets, one command each.

mod download;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CliError;

const EXAMPLES: &str = "\
Examples:
  smelt data download wikitext
  smelt data download openai-community/gpt2 --kind model";

/// Arguments of `smelt data`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Download a data set or a model from a hub
    Download(download::DownloadArgs),
}

pub fn run(args: &DataArgs, context: &Context) -> Result<(), CliError> {
    match &args.command {
        DataCommand::Download(args) => download::run(args, context),
    }
}
