//! `cargo xtask check-arm`: runs the tests of `smelt-backend` for AArch64 under QEMU's user-mode emulation.
//!
//! They show that the loops in NEON compute what the others do, to the last bit; not how fast they are. Slow to build,
//! as it is all of burn.

use crate::outcome::{Outcome, Result};
use crate::workspace::Workspace;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64-static";
/// Starts its own program again, which QEMU cannot where the system does not know how to run it.
const STARTS_ITSELF: &str = "an_instruction_set_that_does_not_exist_is_an_error";

/// Builds and runs the tests, in NEON and in plain loops.
///
/// # Errors
/// If cargo cannot be started.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    for (program, package) in [(LINKER, "gcc-aarch64-linux-gnu"), (EMULATOR, "qemu-user-static")] {
        if workspace.command(program).arg("--version").output().is_err() {
            return Ok(Outcome::NotChecked(format!("there is no `{program}` (on Debian: {package})")));
        }
    }
    for loops in ["neon", "scalar"] {
        let status = workspace
            .cargo()
            .args(["test", "--release", "-p", "smelt-backend", "--features", "cpu", "--tests"])
            .args(["--target", TARGET, "--", "--skip", STARTS_ITSELF])
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
                format!("{EMULATOR} -L /usr/aarch64-linux-gnu"),
            )
            .env("SMELT_CPU", loops)
            .status()?;
        if !status.success() {
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Passed)
}
