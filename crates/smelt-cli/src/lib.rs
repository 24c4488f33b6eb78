//! The command line of smelt, and a thin library face on it for programs of your own.
//!
//! [`run`] is the binary. [`RunConfig`](config::RunConfig) describes a run as its YAML file does. The
//! commands add what people see: progress, tables, messages.

mod arguments;
mod commands;
mod comparison;
pub mod config;
mod context;
mod continuation;
mod dataset;
mod engine;
mod error;
mod folders;
mod generation;
mod hint;
mod hub;
mod instructions;
mod interrupt;
mod line_editor;
mod logging;
mod memory_plan;
mod model_files;
mod model_source;
mod output;
mod profile;
mod progress;
mod quantity;
mod quantize;
mod quickstart;
mod resolve;
mod run_data;
mod run_start;
mod samples;
mod table;
mod terminal;
mod text_model;
mod token_ids;
mod training;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use arguments::{Cli, GlobalOptions};
use context::Context;
pub use context::select_backend;
pub use error::CliError;
pub use generation::{DecodingOptions, Generation, TextReport, TextRequest};
use profile::Profile;
pub use smelt_generate::SamplingOptions;
pub use training::{RunFacts, Start, TrainEvent, TrainSummary, train};

/// Runs the command line `args`, program name first, and returns the exit code: 0 done, 1 failed, 2
/// wrong usage.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and is no error; clap knows which is which.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let profile = cli.command.is_profiled().then(Profile::new);
    let server_level =
        if cli.command.logs() && !cli.global.quiet { cli.global.verbose + 1 } else { cli.global.verbose };
    logging::install(cli.global.verbose, server_level, profile.as_ref());
    let context = Context::new(&cli.global, profile);
    let outcome = set_threads(&cli.global).and_then(|()| commands::run(cli.command, &context));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CliError::OutputClosed) {
                output::report(&error);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// The command line as clap describes it, for tests and documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

fn set_threads(options: &GlobalOptions) -> Result<(), CliError> {
    let Some(threads) = options.threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
    pool.build_global().map_err(|error| CliError::Usage {
        message: format!("cannot use {threads} threads: {error}"),
        hint: "leave `--threads` out to use all cores".to_owned(),
    })
}
