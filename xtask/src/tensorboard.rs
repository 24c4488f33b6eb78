//! `cargo xtask check-tensorboard`: trains a nano model, goes back to an earlier checkpoint, and has the real
//! tensorboard read what the run wrote.

use std::process::Command;

use crate::outcome::{Outcome, Result};
use crate::python::environment;
use crate::workspace::Workspace;

const SCRIPT: &str = "xtask/python/read_events.py";
const RUN: &str = "target/check-tensorboard";

/// Twenty steps with an evaluation, a sample and a checkpoint every five.
const SETTINGS: [&str; 26] = [
    "--backend",
    "cpu",
    "--quiet",
    "--max-steps",
    "20",
    "--warmup-steps",
    "2",
    "--seq-length",
    "32",
    "--batch-size",
    "2",
    "--eval-interval",
    "5",
    "--save-interval",
    "5",
    "--keep-last",
    "4",
    "--log-interval",
    "1",
    "--set",
    "model.hidden_size=32",
    "--set",
    "model.num_hidden_layers=1",
    "--set",
    "model.vocab_size=300",
    "--overwrite",
];

/// Compares what tensorboard shows with `metrics.jsonl`.
///
/// # Errors
/// If a program cannot be started.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let python = match environment(workspace, &["tensorboard"])? {
        Ok(python) => python,
        Err(reason) => return Ok(Outcome::NotChecked(reason)),
    };
    let mut build = workspace.cargo();
    build.args(["build", "--release", "-p", "smelt-cli"]);
    let train = |arguments: &[&str]| {
        let mut command = workspace.command(workspace.smelt());
        command.arg("train").args(arguments).stdout(std::process::Stdio::null());
        command
    };
    let first = train(&[&SETTINGS[..], &["--output", RUN]].concat());
    // As after a kill: what the run wrote after this checkpoint is to be forgotten.
    let checkpoint = format!("{RUN}/checkpoints/step-00000010");
    let second = train(&["--resume", &checkpoint, "--quiet"]);
    let mut read = workspace.command(python);
    read.args([SCRIPT, RUN]);
    let succeeds = |mut step: Command| step.status().map(|status| status.success());
    for step in [build, first, second, read] {
        if !succeeds(step)? {
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Passed)
}
