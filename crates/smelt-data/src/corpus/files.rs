//! The files of some inputs, one after the other, and a fingerprint of them all.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::Input;
use super::walk::{Step, Walk};
use crate::DataError;

/// One thing to read from.
#[derive(Debug)]
pub enum Entry<'i> {
    /// What a path led to.
    Walked(Step),
    /// What came on standard input.
    Stdin(PathBuf),
    /// A text in memory.
    Text { source: &'i str, text: &'i str },
}

/// Goes over the files of inputs in order, each with the index of its input.
#[derive(Debug)]
pub struct Files<'i> {
    inputs: &'i [Input],
    next_input: usize,
    walk: Walk,
    stdin: &'i Path,
}

impl<'i> Files<'i> {
    /// `stdin` is where standard input was spooled; `left_out` a folder that is not visited.
    pub fn new(inputs: &'i [Input], stdin: &'i Path, left_out: Option<&Path>) -> Self {
        Self { inputs, next_input: 0, walk: Walk::new(left_out), stdin }
    }
}

impl<'i> Iterator for Files<'i> {
    type Item = Result<(usize, Entry<'i>), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(step) = self.walk.next() {
                return Some(Ok((self.next_input - 1, Entry::Walked(step))));
            }
            let input = self.inputs.get(self.next_input)?;
            let index = self.next_input;
            self.next_input += 1;
            match input {
                Input::Stdin => return Some(Ok((index, Entry::Stdin(self.stdin.to_owned())))),
                Input::Text { source, text } => return Some(Ok((index, Entry::Text { source, text }))),
                Input::Path(_) | Input::Pattern(_) => match input.paths() {
                    Ok(paths) => self.walk.enter_inputs(paths),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

/// What there is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// Changes when a file is added, removed, or written to.
    pub fingerprint: String,
    /// Size of all files on the disk, in bytes.
    pub total_bytes: u64,
}

impl Catalogue {
    /// Lists `files` without opening any but the spool of standard input.
    ///
    /// # Errors
    /// If an input does not exist, or the spool cannot be read.
    pub fn of(files: Files<'_>) -> Result<Self, DataError> {
        let mut hasher = Sha256::new();
        let mut total_bytes = 0;
        for file in files {
            let (input, entry) = file?;
            hasher.update((input as u64).to_le_bytes());
            match entry {
                Entry::Walked(Step::File(file)) => {
                    let modified =
                        file.metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                    hasher.update(file.path.as_os_str().as_encoded_bytes());
                    hasher.update(file.metadata.len().to_le_bytes());
                    hasher.update(modified.unwrap_or_default().as_nanos().to_le_bytes());
                    total_bytes += file.metadata.len();
                }
                Entry::Walked(Step::Special(path) | Step::Unreadable(path, _)) => {
                    hasher.update(path.as_os_str().as_encoded_bytes());
                }
                Entry::Stdin(path) => total_bytes += hash_file(&path, &mut hasher)?,
                Entry::Text { source, text } => {
                    hasher.update(source);
                    hasher.update((text.len() as u64).to_le_bytes());
                    hasher.update(text);
                    total_bytes += text.len() as u64;
                }
            }
        }
        Ok(Self { fingerprint: format!("{:x}", hasher.finalize()), total_bytes })
    }
}

fn hash_file(path: &Path, hasher: &mut Sha256) -> Result<u64, DataError> {
    let mut file = std::fs::File::open(path).map_err(DataError::io("read", path))?;
    std::io::copy(&mut file, hasher).map_err(DataError::io("read", path))
}
