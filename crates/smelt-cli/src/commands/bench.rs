//! `smelt bench`: speed of training, decoding, matmul and memory.

use clap::Args;

use crate::context::Context;
use crate::error::CliError;

const EXAMPLES: &str = "\
Examples:
  smelt bench
  smelt bench --backend candle --json";

/// Arguments of `smelt bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {}

pub fn run(_args: &BenchArgs, _context: &Context) -> Result<(), CliError> {
    unreachable!()
}
