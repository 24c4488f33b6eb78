//! `cargo xtask ci`: what must hold before a change lands, in the order of what fails fastest.
//!
//! Installs nothing and knows nothing of GPUs: `.ci/run` does that around it.

use std::time::Instant;

use crate::outcome::{Outcome, Result};
use crate::steps::{self, Finished, Step};
use crate::tidy;
use crate::workspace::Workspace;

const STEPS: [&str; 6] = ["fmt", "tidy", "clippy", "doc", "tests", "backends"];

/// The backends every machine can run.
const BACKENDS: &str = "cpu,ndarray,candle";
/// Crates whose tests go over each of them. Those of the others would, too: it takes three times as long to build them.
const ON_EVERY_BACKEND: [&str; 2] = ["smelt-backend", "smelt-model"];

/// Runs the steps named, or all of them; a failed step does not keep the next from running.
///
/// # Errors
/// If a program cannot be started.
pub fn run(workspace: &Workspace, names: &[&str]) -> Result<Outcome> {
    if let Some(unknown) = names.iter().find(|name| !STEPS.contains(name)) {
        return Ok(Outcome::WrongUsage(format!("no step `{unknown}` (there are {})", STEPS.join(", "))));
    }
    let chosen = STEPS.into_iter().filter(|step| names.is_empty() || names.contains(step));
    let mut finished = Vec::new();
    for name in chosen {
        run_step(workspace, name, &mut finished)?;
    }
    if finished.len() > 1 {
        println!("\n{}", steps::table(&finished));
    }
    Ok(Outcome::from_passed(finished.iter().all(|step| step.passed)))
}

fn run_step(workspace: &Workspace, name: &str, finished: &mut Vec<Finished>) -> Result<()> {
    if name == "tidy" {
        println!("\n$ cargo xtask tidy");
        let start = Instant::now();
        let passed = tidy::run(workspace)? == Outcome::Passed;
        finished.push(Finished::after(name, passed, start));
        return Ok(());
    }
    for step in cargo_steps(workspace, name) {
        finished.push(step.run()?);
    }
    Ok(())
}

/// One profile for all of it, so that clippy and the tests share build scripts and macros.
fn cargo_steps(workspace: &Workspace, name: &str) -> Vec<Step> {
    let step = |arguments: &[&str]| {
        let mut command = workspace.cargo();
        command.args(arguments);
        Step::new(name, command)
    };
    let whole = ["--release", "--workspace", "--features", BACKENDS];
    // Examples of the documentation apart: nextest runs none.
    let tests = |chosen: &[&str]| match has_nextest(workspace) {
        true => step(&[&["nextest", "run"], chosen].concat()),
        false => step(&[&["test", "--tests"], chosen].concat()),
    };
    match name {
        "fmt" => vec![step(&["fmt", "--all", "--check"])],
        "clippy" => {
            vec![step(&[&["clippy"], &whole[..], &["--all-targets", "--", "-D", "warnings"]].concat())]
        }
        "doc" => {
            let mut doc = step(&[&["doc"], &whole[..], &["--no-deps"]].concat());
            doc.command.env("RUSTDOCFLAGS", "-D warnings");
            vec![doc]
        }
        "backends" => {
            let packages = ON_EVERY_BACKEND.iter().flat_map(|package| ["--package", package]);
            let chosen: Vec<&str> = packages.chain(["--release", "--features", BACKENDS]).collect();
            vec![tests(&chosen)]
        }
        _ => {
            let whole = ["--release", "--workspace", "--features", "cpu"];
            vec![step(&[&["test"], &whole[..], &["--doc", "--quiet"]].concat()), tests(&whole)]
        }
    }
}

fn has_nextest(workspace: &Workspace) -> bool {
    workspace.cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(name: &str) -> Vec<String> {
        let workspace = Workspace { root: ".".into() };
        let steps = cargo_steps(&workspace, name);
        let words = steps.last().expect("every step runs something").command.get_args();
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn warnings_are_errors_for_clippy() {
        assert!(arguments("clippy").ends_with(&["--".into(), "-D".into(), "warnings".into()]));
    }

    #[test]
    fn every_backend_that_needs_no_gpu_is_linted_and_tested() {
        for step in ["clippy", "backends"] {
            assert!(arguments(step).contains(&"cpu,ndarray,candle".to_owned()), "{step}");
        }
        assert!(arguments("tests").contains(&"--workspace".to_owned()));
    }

    #[test]
    fn an_unknown_step_is_wrong_usage() {
        let workspace = Workspace { root: ".".into() };
        let outcome = run(&workspace, &["fnt"]).expect("nothing is run");
        assert_eq!(
            outcome,
            Outcome::WrongUsage("no step `fnt` (there are fmt, tidy, clippy, doc, tests, backends)".into())
        );
    }
}
