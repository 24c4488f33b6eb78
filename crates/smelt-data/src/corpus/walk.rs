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
    File(FoundFile),
    /// A socket, pipe or device.
    Special(PathBuf),
    /// Something that could not be looked at.
    Unreadable(PathBuf, io::Error),
}

/// A file, and whether it was named as an input or found in a folder.
#[derive(Debug, Clone)]
pub struct FoundFile {
    pub path: PathBuf,
    pub named: bool,
    pub metadata: fs::Metadata,
}

/// Depth-first over the inputs, folders in order of file name.
#[derive(Debug)]
pub struct Walk {
    /// What is still to be visited, the next on top, and whether it was named.
    stack: Vec<(PathBuf, bool)>,
    folders: HashSet<PathBuf>,
}

impl Walk {
    /// `left_out` is a folder whose contents are not visited.
    pub fn new(left_out: Option<&Path>) -> Self {
        let folders = left_out.and_then(|folder| fs::canonicalize(folder).ok()).into_iter().collect();
        Self { stack: Vec::new(), folders }
    }

    /// Visits `paths` next; folders that were visited before are left out.
    pub fn enter_inputs(&mut self, paths: Vec<PathBuf>) {
        self.stack.extend(paths.into_iter().rev().map(|path| (path, true)));
    }

    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        if !self.folders.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        let mut paths =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort_unstable_by(|a, b| b.cmp(a));
        self.stack.extend(paths.into_iter().map(|path| (path, false)));
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let (path, named) = self.stack.pop()?;
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) => return Some(Step::Unreadable(path, error)),
            };
            if metadata.is_file() {
                return Some(Step::File(FoundFile { path, named, metadata }));
            }
            if !metadata.is_dir() {
                return Some(Step::Special(path));
            }
            if !named && is_hidden(&path) {
                continue;
            }
            if let Err(error) = self.enter(&path) {
                return Some(Step::Unreadable(path, error));
            }
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
