//! The binary `smelt`.

use std::process::ExitCode;

fn main() -> ExitCode {
    smelt_cli::run(std::env::args_os())
}
