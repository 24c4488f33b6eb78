//! `smelt data`: from a hub or files to a folder to train on, and what such a folder holds.

mod download;
mod histogram;
mod prepare;
mod report;
mod stats;
mod verify;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CliError;

const EXAMPLES: &str = "\
Examples:
  smelt data download wikitext
  smelt data prepare --input ~/scripts --output data/bash --recipe bash
  smelt data verify data/bash
  smelt data stats data/bash
  smelt train --data data/bash --output runs/bash";

/// Arguments of `smelt data`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// The commands under `smelt data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Download a data set or a model from a hub
    Download(download::DownloadArgs),
    /// Turn text, code or records into a tokenizer and token shards
    Prepare(Box<prepare::PrepareArgs>),
    /// Check every file of a prepared folder
    Verify(verify::VerifyFolderArgs),
    /// Count documents and tokens, and show how long documents are
    Stats(stats::StatsArgs),
}

/// Runs the command under `smelt data`.
///
/// # Errors
/// [`CliError`] of the command.
pub fn run(args: &DataArgs, context: &Context) -> Result<(), CliError> {
    match &args.command {
        DataCommand::Download(args) => download::run(args, context),
        DataCommand::Prepare(args) => prepare::run(args, context),
        DataCommand::Verify(args) => verify::run(args, context),
        DataCommand::Stats(args) => stats::run(args, context),
    }
}
