//! `cargo xtask check-python`: what smelt writes, opened by the Python packages of others, and its server, asked by one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::outcome::{Outcome, Result};
use crate::workspace::Workspace;

const SCRIPT: &str = "xtask/python/compare_logits.py";
const PACKAGES: [&str; 9] = [
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "tensorboard",
    "openai",
    "onnx",
    "onnxruntime",
];

/// Makes a virtual environment under `target/` with the packages, and runs the tests that want it.
///
/// # Errors
/// If a program cannot be started.
pub fn tests(workspace: &Workspace) -> Result<Outcome> {
    let python = match environment(workspace, &PACKAGES)? {
        Ok(python) => python,
        Err(reason) => return Ok(Outcome::NotChecked(reason)),
    };
    let tests =
        ["test", "--release", "-p", "smelt-cli", "--test", "cli", "--", "python", "openai", "--nocapture"];
    let status = workspace.cargo().args(tests).env("SMELT_PYTHON", python).status()?;
    Ok(Outcome::from_passed(status.success()))
}

/// Compares the logits of the checkpoint in `folder`.
///
/// # Errors
/// If the folder is none, or a program cannot be started.
pub fn compare(workspace: &Workspace, folder: &Path) -> Result<Outcome> {
    let folder =
        fs::canonicalize(folder).map_err(|error| format!("cannot open `{}`: {error}", folder.display()))?;
    let python = match environment(workspace, &PACKAGES)? {
        Ok(python) => python,
        Err(reason) => return Ok(Outcome::NotChecked(reason)),
    };
    let build = workspace.cargo().args(["build", "--release", "-p", "smelt-cli"]).status()?;
    if !build.success() {
        return Ok(Outcome::Failed);
    }
    let status =
        workspace.command(python).arg(SCRIPT).arg(folder).env("SMELT", workspace.smelt()?).status()?;
    Ok(Outcome::from_passed(status.success()))
}

/// A Python that has `packages`, or the reason why there is none.
fn environment(workspace: &Workspace, packages: &[&str]) -> Result<std::result::Result<PathBuf, String>> {
    let folder = workspace.root.join("target/check-python");
    let python = folder.join("bin/python");
    for present in [PathBuf::from("python3"), python.clone()] {
        if has_packages(workspace, &present, packages) {
            return Ok(Ok(present));
        }
    }
    let created = workspace.command("python3").args(["-m", "venv"]).arg(&folder).status();
    if !created.is_ok_and(|status| status.success()) {
        return Ok(Err("no `python3` that can create a virtual environment".into()));
    }
    let installed =
        workspace.command(&python).args(["-m", "pip", "install", "--quiet"]).args(packages).status()?;
    if installed.success() && has_packages(workspace, &python, packages) {
        return Ok(Ok(python));
    }
    Ok(Err(format!("pip cannot install {}", packages.join(", "))))
}

fn has_packages(workspace: &Workspace, python: &Path, packages: &[&str]) -> bool {
    let import = format!("import {}", packages.join(", "));
    workspace.command(python).args(["-c", &import]).output().is_ok_and(|output| output.status.success())
}
