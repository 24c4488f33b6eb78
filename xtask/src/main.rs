//! `cargo xtask`: chores of the workspace, written in Rust so that they run wherever smelt builds.
//!
//! Not part of what users install: nothing in `crates/` depends on it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arm;
mod ci;
mod device;
mod golden;
mod macos;
mod memory_table;
mod outcome;
mod python;
mod steps;
mod tidy;
mod workspace;

use std::process::ExitCode;

use outcome::{Outcome, Result};
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [STEP...]            fmt, tidy, clippy, doc, tests, backends; or only the steps named
  tidy                    the invariants of ARCHITECTURE.md, checked on the source
  golden FOLDER [NAME...] refresh tests/golden from FOLDER; NAME adds a fixture
  check-macos [ARG...]    type-check for aarch64-apple-darwin on Debian, without a Mac
  check-arm               run the kernel tests for AArch64 under QEMU: NEON without such a machine
  check-metal [--rehearse]
                          what a Mac is asked for: build, goldens and a short training run on Metal;
                          --rehearse takes the same steps on the `candle` CPU backend, anywhere
  check-wgpu              the same on wgpu; on a software driver it takes hours
  memory-table            estimates of training memory against measured peaks, into docs/memory.md
  check-python [FOLDER]   open what smelt writes with transformers, peft and tensorboard;
                          with FOLDER, compare the logits of that checkpoint with transformers'

exit codes: 0 passed, 1 failed, 2 wrong usage, 3 not checked (the reason is printed)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::WrongUsage(reason)) => {
            eprintln!("error: {reason}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Ok(Outcome::NotChecked(reason)) => {
            println!("not checked: {reason}");
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &[&str]) -> Result<Outcome> {
    let workspace = Workspace::find()?;
    match arguments {
        ["ci", steps @ ..] => ci::run(&workspace, steps),
        ["tidy"] => tidy::run(&workspace),
        ["golden", folder, names @ ..] => golden::run(&workspace, folder.as_ref(), names),
        ["check-macos", cargo_arguments @ ..] => macos::run(&workspace, cargo_arguments),
        ["check-arm"] => arm::run(&workspace),
        ["check-metal"] => device::run(&workspace, &device::ON_A_MAC),
        ["check-metal", "--rehearse"] => device::run(&workspace, &device::REHEARSAL),
        ["check-wgpu"] => device::run(&workspace, &device::ON_WGPU),
        ["memory-table"] => memory_table::run(&workspace),
        ["check-python"] => python::tests(&workspace),
        ["check-python", folder] => python::compare(&workspace, folder.as_ref()),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(Outcome::Passed)
        }
        [] => Ok(Outcome::WrongUsage("no command given".into())),
        other => Ok(Outcome::WrongUsage(format!("cannot make sense of `{}`", other.join(" ")))),
    }
}
