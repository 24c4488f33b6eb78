//! `cargo xtask golden`: refreshes `tests/golden` from a folder of fixtures.
//!
//! Copies bytes only. The values come from reference implementations, by the generators that lie
//! beside them; nothing here computes one.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::outcome::{Outcome, Result};
use crate::workspace::Workspace;

/// Brings every fixture of `tests/golden` that `source` has, and those of `names`, to its state there.
///
/// # Errors
/// If a name is in neither folder or a file cannot be read or written.
pub fn run(workspace: &Workspace, source: &Path, names: &[&str]) -> Result<Outcome> {
    if !source.is_dir() {
        return Err(format!("no folder `{}`", source.display()).into());
    }
    let golden = workspace.root.join("tests/golden");
    fs::create_dir_all(&golden)?;
    let mut changed = 0;
    for name in fixtures(&golden, names)? {
        let from = source.join(&name);
        if from.is_dir() {
            changed += mirror(&from, &golden.join(&name))?;
        } else if from.is_file() {
            changed += copy_file(&from, &golden.join(&name))?;
        } else if names.contains(&name.as_str()) {
            return Err(format!("no `{name}` in `{}`", source.display()).into());
        } else {
            println!("kept   {name}: not in `{}`", source.display());
        }
    }
    println!("golden: {changed} files changed");
    Ok(Outcome::Passed)
}

/// What lies in `tests/golden`, and the names to add, sorted.
fn fixtures(golden: &Path, names: &[&str]) -> Result<Vec<String>> {
    let mut all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    all.extend(names_in(golden)?);
    all.sort();
    all.dedup();
    Ok(all)
}

/// Makes `to` hold exactly what `from` holds; returns how many files it changed.
fn mirror(from: &Path, to: &Path) -> Result<usize> {
    fs::create_dir_all(to)?;
    let mut changed = 0;
    for name in names_in(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        changed += if source.is_dir() { mirror(&source, &target)? } else { copy_file(&source, &target)? };
    }
    for name in names_in(to)?.into_iter().filter(|name| !from.join(name).exists()) {
        let target = to.join(name);
        println!("remove {}", target.display());
        if target.is_dir() {
            fs::remove_dir_all(target)?
        } else {
            fs::remove_file(target)?
        }
        changed += 1;
    }
    Ok(changed)
}

/// 1 if the file was written, 0 if it already held the same bytes.
fn copy_file(from: &Path, to: &Path) -> Result<usize> {
    let content = fs::read(from)?;
    match fs::read(to) {
        Ok(present) if present == content => return Ok(0),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => println!("write  {}", to.display()),
    }
    // The bytes alone: fixtures are often kept read-only, and that should not spread.
    fs::write(to, content)?;
    Ok(1)
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_writes_what_differs_and_removes_what_is_gone() {
        let folder = std::env::temp_dir().join(format!("xtask-golden-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(from.join("adapter")).expect("a temporary folder");
        fs::create_dir_all(&to).expect("a temporary folder");
        fs::write(from.join("config.json"), "{}").expect("writable");
        fs::write(from.join("adapter/meta.json"), "{\"seed\": 1}").expect("writable");
        fs::write(to.join("config.json"), "{}").expect("writable");
        fs::write(to.join("old.json"), "{}").expect("writable");

        assert_eq!(mirror(&from, &to).expect("both folders are there"), 2);
        assert_eq!(names_in(&to).expect("readable"), ["adapter", "config.json"]);
        assert_eq!(mirror(&from, &to).expect("both folders are there"), 0);
        fs::remove_dir_all(folder).expect("removable");
    }
}
