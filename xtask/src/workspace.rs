//! Where the workspace lies, which files are its own, and how to call programs in it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::outcome::Result;

/// Folders that hold what is built or run, for trees without git to ask.
const NOT_SOURCE: [&str; 4] = ["target", ".git", "runs", "venv"];

/// The checkout this xtask belongs to.
pub struct Workspace {
    /// Folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
}

impl Workspace {
    /// Finds the workspace from the folder that cargo names for this package.
    ///
    /// # Errors
    /// If this program was not started through cargo.
    pub fn find() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR").ok_or("start this through `cargo xtask`")?;
        let root = Path::new(&package).parent().ok_or("the package `xtask` has no parent folder")?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// A command that runs in the root.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The same cargo that started this program, run in the root.
    pub fn cargo(&self) -> Command {
        self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// What cargo knows of the packages of the workspace; needs no network.
    pub fn metadata(&self) -> Result<Value> {
        let output = self.cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Where a release build leaves the binary, wherever the environment or a `config.toml` puts what is built.
    pub fn smelt(&self) -> Result<PathBuf> {
        let metadata = self.metadata()?;
        let target = metadata["target_directory"].as_str().ok_or("cargo names no target directory")?;
        Ok(Path::new(target).join("release").join(format!("smelt{}", env::consts::EXE_SUFFIX)))
    }

    /// Paths of the source files, relative to the root with `/` between parts, sorted: what git
    /// tracks and what it would track; every file outside of build folders where git does not answer.
    pub fn files(&self) -> Result<Vec<String>> {
        let listed = self
            .command("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output();
        let mut files = match listed {
            Ok(output) if output.status.success() => split_names(&output.stdout),
            _ => walk(&self.root, "")?,
        };
        files.retain(|path| self.root.join(path).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Whether git tracks `path`; `None` where git does not answer.
    pub fn is_tracked(&self, path: &str) -> Option<bool> {
        let output = self.command("git").args(["ls-files", "-z", "--", path]).output().ok()?;
        output.status.success().then_some(!output.stdout.is_empty())
    }
}

fn split_names(listing: &[u8]) -> Vec<String> {
    let names = listing.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn walk(folder: &Path, prefix: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if !entry.file_type()?.is_dir() {
            files.push(path);
        } else if !NOT_SOURCE.contains(&name.as_str()) {
            files.extend(walk(&entry.path(), &path)?);
        }
    }
    Ok(files)
}
