//! `cargo xtask check-metal` and `check-wgpu`: what the first person with such a device runs, with one page
//! of results.
//!
//! Knows nothing of what a right answer is: the goldens, the self-test and the kernel tests do.

use std::fs;
use std::process::Command;

use crate::outcome::{Outcome, Result};
use crate::steps::{self, Finished, Step};
use crate::workspace::Workspace;

/// Which backend the steps are for, and how it gets into the build.
pub struct Plan {
    backend: &'static str,
    features: &'static str,
    needs_a_mac: bool,
    /// Settings of the short training run besides its length.
    training: &'static [&'static str],
}

/// The real thing.
pub const ON_A_MAC: Plan =
    Plan { backend: "metal", features: "metal,accelerate", needs_a_mac: true, training: &[] };

/// The same steps on candle's CPU device, which shares its Rust code with Metal.
pub const REHEARSAL: Plan = Plan { backend: "candle", features: "candle", needs_a_mac: false, training: &[] };

/// Any GPU, or a software driver: the model is small enough for one, and hours still pass there.
pub const ON_WGPU: Plan = Plan {
    backend: "wgpu",
    features: "wgpu",
    needs_a_mac: false,
    training: &["--set", "model.n_layer=2", "--set", "model.n_embd=64", "--set", "model.n_head=4"],
};

/// Builds, asks the backend for its self-test, verifies every golden, trains briefly, runs the
/// kernel tests; prints the page and leaves it in `target/check-BACKEND/results.md`.
///
/// # Errors
/// If a program cannot be started or the page cannot be written.
pub fn run(workspace: &Workspace, plan: &Plan) -> Result<Outcome> {
    if plan.needs_a_mac && !cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        return Ok(Outcome::NotChecked(
            "Metal needs a Mac with Apple Silicon (`check-metal --rehearse` takes the same steps on the CPU)"
                .into(),
        ));
    }
    let folder = workspace.root.join(plan.folder());
    fs::create_dir_all(&folder)?;
    let mut finished = vec![build(workspace, plan).run()?];
    if finished[0].passed {
        for step in check_steps(workspace, plan)? {
            finished.push(step.run()?);
        }
    }
    finished.push(kernel_tests(workspace, plan).run()?);

    let page = page(workspace, plan, &finished);
    let path = folder.join("results.md");
    fs::write(&path, &page)?;
    println!("\n{page}\nwritten to {}; please attach it to an issue", path.display());
    Ok(Outcome::from_passed(finished.iter().all(|step| step.passed)))
}

impl Plan {
    /// Where the page and the run go.
    fn folder(&self) -> String {
        format!("target/check-{}", self.backend)
    }
}

fn build(workspace: &Workspace, plan: &Plan) -> Step {
    let mut command = workspace.cargo();
    command.args(["build", "--release", "-p", "smelt-cli", "--features", plan.features]);
    Step::new(format!("build with {}", plan.features), command)
}

fn kernel_tests(workspace: &Workspace, plan: &Plan) -> Step {
    // With `cpu`, as in the build of the binary: fewer dependencies differ.
    let features = format!("cpu,{}", plan.features);
    let mut command = workspace.cargo();
    command.args(["test", "--release", "-p", "smelt-backend", "--features", &features]);
    Step::new("kernels against plain burn", command)
}

fn check_steps(workspace: &Workspace, plan: &Plan) -> Result<Vec<Step>> {
    let mut steps = vec![Step::new("backends and self-test", smelt(workspace, &["backends"])?)];
    for fixture in model_fixtures(workspace)? {
        let command = smelt(workspace, &["verify", &fixture, "--backend", plan.backend])?;
        steps.push(Step::new(format!("verify {fixture}"), command));
    }
    let output = &format!("{}/run", plan.folder());
    let length = ["--max-steps", "30", "--warmup-steps", "5"];
    let train = [
        &["train", "--backend", plan.backend, "--output", output, "--overwrite"],
        &length[..],
        plan.training,
    ]
    .concat();
    steps.push(Step::new("train 30 steps", smelt(workspace, &train)?));
    let generate =
        ["generate", "--backend", plan.backend, "--model", output, "--max-tokens", "32", "--seed", "1"];
    steps.push(Step::new("generate from what was trained", smelt(workspace, &generate)?));
    Ok(steps)
}

/// Fixtures of `tests/golden` that hold a model, and so depend on the backend.
fn model_fixtures(workspace: &Workspace) -> Result<Vec<String>> {
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(workspace.root.join("tests/golden"))? {
        let entry = entry?;
        if entry.path().join("config.json").is_file() {
            fixtures.push(format!("tests/golden/{}", entry.file_name().to_string_lossy()));
        }
    }
    fixtures.sort();
    Ok(fixtures)
}

fn smelt(workspace: &Workspace, arguments: &[&str]) -> Result<Command> {
    let mut command = workspace.command(workspace.smelt()?);
    command.args(arguments);
    Ok(command)
}

fn page(workspace: &Workspace, plan: &Plan, finished: &[Finished]) -> String {
    let facts = [
        ("machine", capture(workspace.command("sysctl").args(["-n", "machdep.cpu.brand_string"]))),
        ("memory, bytes", capture(workspace.command("sysctl").args(["-n", "hw.memsize"]))),
        ("macOS", capture(workspace.command("sw_vers").arg("-productVersion"))),
        ("commit", capture(workspace.command("git").args(["rev-parse", "--short", "HEAD"]))),
    ];
    let facts: String =
        facts.iter().filter_map(|(name, value)| Some(format!("- {name}: {}\n", value.as_ref()?))).collect();
    let backends = smelt(workspace, &["backends"]).ok().and_then(|mut command| capture(&mut command));
    let backends = backends.unwrap_or_else(|| "no answer".into());
    let failed = finished.iter().filter(|step| !step.passed).count();
    let total = finished.len();
    let table = steps::table(finished);
    format!(
        "# {failed} of {total} steps failed on `{}`\n\n{facts}\n```\n{table}```\n\n```\n{backends}\n```\n",
        plan.backend
    )
}

/// The standard output of a command that succeeds.
fn capture(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_page_counts_failures_first() {
        let workspace = Workspace { root: ".".into() };
        let start = Instant::now();
        let finished = [Finished::after("build", true, start), Finished::after("train", false, start)];
        let page = page(&workspace, &REHEARSAL, &finished);
        assert!(page.starts_with("# 1 of 2 steps failed on `candle`\n"), "{page}");
    }
}
