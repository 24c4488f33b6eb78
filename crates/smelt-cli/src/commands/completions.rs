//! `smelt completions`: completion scripts for shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::error::CliError;
use crate::output::write_raw;

const EXAMPLES: &str = "\
Examples:
  smelt completions bash > ~/.local/share/bash-completion/completions/smelt
  smelt completions zsh > ~/.zfunc/_smelt";

/// Arguments of `smelt completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "smelt", &mut script);
    write_raw(&script)
}
