//! One file per command: its arguments, and what it does with them.

mod backends;
mod bench;
mod chat;
mod completions;
mod convert;
mod data;
mod doctor;
mod estimate;
mod fuse;
mod generate;
mod info;
mod logits;
mod report;
mod serve;
mod tokenizer;
mod train;
mod verify;

pub use backends::BackendsArgs;
pub use bench::BenchArgs;
pub use chat::ChatArgs;
pub use completions::CompletionsArgs;
pub use convert::ConvertArgs;
pub use data::DataArgs;
pub use doctor::DoctorArgs;
pub use estimate::EstimateArgs;
pub use fuse::FuseArgs;
pub use generate::GenerateArgs;
pub use info::InfoArgs;
pub use logits::LogitsArgs;
pub use report::ReportArgs;
pub use serve::ServeArgs;
pub use tokenizer::TokenizerArgs;
pub use train::TrainArgs;
pub use verify::VerifyArgs;

use crate::arguments::Command;
use crate::context::Context;
use crate::error::CliError;

/// Runs a command to its end.
///
/// # Errors
/// [`CliError`] of the command.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    match command {
        Command::Train(args) => train::run(&args, context),
        Command::Data(args) => data::run(&args, context),
        Command::Generate(args) => generate::run(&args, context),
        Command::Chat(args) => chat::run(&args, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Tokenizer(args) => tokenizer::run(&args, context),
        Command::Convert(args) => convert::run(&args, context),
        Command::Fuse(args) => fuse::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Logits(args) => logits::run(&args, context),
        Command::Estimate(args) => estimate::run(&args, context),
        Command::Backends(args) => backends::run(&args, context),
        Command::Report(args) => report::run(&args, context),
        Command::Info(args) => info::run(&args, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Completions(args) => completions::run(&args),
    }
}
