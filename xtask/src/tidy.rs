//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md, checked on the source as text.
//!
//! Scans rather than parses: it knows comments, literals, braces and test code, nothing of types.
//! What rustc and clippy can see is left to them.

mod code;
mod crates;
mod size;
mod source;
mod text;

use std::fmt;
use std::fs;

use crate::outcome::{Outcome, Result};
use crate::workspace::Workspace;
use source::Source;

/// One place that breaks an invariant.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// File, relative to the root.
    pub path: String,
    /// Line from 1; 0 means the whole file.
    pub line: usize,
    /// What is wrong, and what would be right where that is not plain.
    pub message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Prints every finding; fails if there is one.
///
/// # Errors
/// If a file cannot be read or cargo does not answer.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let files = workspace.files()?;
    let findings = check(workspace, &files)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to mend", files.len()),
        count => println!("tidy: {count} to mend in {} files", files.len()),
    }
    Ok(Outcome::from_passed(findings.is_empty()))
}

fn check(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = crates::check(workspace)?;
    for path in files {
        let bytes =
            fs::read(workspace.root.join(path)).map_err(|error| format!("cannot read `{path}`: {error}"))?;
        let content = match String::from_utf8(bytes) {
            Ok(content) => content,
            Err(binary) => {
                findings.extend(text::check_binary(path, binary.as_bytes()));
                continue;
            }
        };
        findings.extend(text::check(path, &content));
        findings.extend(size::check_file(path, &content));
        if path.ends_with(".rs") {
            let source = Source::new(path, &content);
            findings.extend(code::check(&source));
            findings.extend(size::check_functions(&source));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let workspace = Workspace::find().expect("cargo names the package");
        let files = workspace.files().expect("the tree can be listed");
        let findings = check(&workspace, &files).expect("the tree can be read");
        let listed: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(listed.is_empty(), "{}", listed.join("\n"));
    }
}
