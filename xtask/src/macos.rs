//! `cargo xtask check-macos`: type-checks for `aarch64-apple-darwin` without a Mac.
//!
//! Links and runs nothing: it shows that the Metal path compiles, not that it works. The recipe is
//! `xtask/macos/check.sh`, which needs Debian and a package mirror.

use crate::outcome::{Outcome, Result};
use crate::workspace::Workspace;

/// The release profile does not optimise build scripts and macros, which is most of what is compiled here.
const ARGUMENTS: [&str; 5] = ["--release", "-p", "smelt-cli", "--features", "metal,accelerate,wgpu"];

/// The script's exit code where this machine cannot check.
const CANNOT_CHECK: i32 = 3;

/// Checks `smelt-cli` with every backend of a Mac, or what `arguments` of `cargo check` say.
///
/// # Errors
/// If the script cannot be started.
pub fn run(workspace: &Workspace, arguments: &[&str]) -> Result<Outcome> {
    if !cfg!(target_os = "linux") {
        return Ok(Outcome::NotChecked("the recipe is for Debian; on a Mac use `cargo check`".into()));
    }
    let mut command = workspace.command("bash");
    command.arg("xtask/macos/check.sh").arg(&workspace.root);
    command.args(if arguments.is_empty() { &ARGUMENTS[..] } else { arguments });
    let status = command.status()?;
    Ok(match status.code() {
        Some(CANNOT_CHECK) => {
            Outcome::NotChecked("no source of the standard library to be had (see above)".into())
        }
        _ => Outcome::from_passed(status.success()),
    })
}
