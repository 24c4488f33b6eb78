//! The files under some paths, in an order that depends on their names alone.
//!
//! Follows symbolic links, each folder once, so loops end. Leaves hidden folders out, not hidden files:
//! `.git` is no text to learn from, `.bashrc` is.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the walk came across.
#[derive(Debug)]
pub enum Step {
    /// A regular file.
    File(Found),
    /// A socket, pipe or device.
    Special(PathBuf),
    /// Something that could not be looked at.
    Unreadable(PathBuf, io::Error),
}

/// A file, and whether it was named as an input or found in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub named: bool,
}

/// Depth-first over the inputs, folders in order of file name.
#[derive(Debug)]
pub struct Walk {
    /// What is still to be visited, the next on top.
    stack: Vec<Found>,
    folders: HashSet<PathBuf>,
}

impl Walk {
    pub fn new(inputs: &[PathBuf]) -> Self {
        let stack = inputs.iter().rev().map(|path| Found { path: path.clone(), named: true }).collect();
        Self { stack, folders: HashSet::new() }
    }

    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        if !self.folders.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        let mut paths =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort_unstable_by(|a, b| b.cmp(a));
        self.stack.extend(paths.into_iter().map(|path| Found { path, named: false }));
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let found = self.stack.pop()?;
            let kind = match fs::metadata(&found.path) {
                Ok(metadata) => metadata.file_type(),
                Err(error) => return Some(Step::Unreadable(found.path, error)),
            };
            if kind.is_file() {
                return Some(Step::File(found));
            }
            if !kind.is_dir() {
                return Some(Step::Special(found.path));
            }
            if !found.named && is_hidden(&found.path) {
                continue;
            }
            if let Err(error) = self.enter(&found.path) {
                return Some(Step::Unreadable(found.path, error));
            }
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
