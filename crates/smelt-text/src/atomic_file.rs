//! Files that appear whole or not at all.
//!
//! Bytes go to a hidden `.NAME.partial` beside the target, which is synced and renamed over it. A kill
//! leaves at most that partial file, and the next write of the same name replaces it. Two processes
//! writing the same target at once are not supported.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file under construction; the target changes only on [`AtomicFile::commit`].
///
/// Dropping it without a commit removes what was written and leaves the target as it was.
#[derive(Debug)]
pub struct AtomicFile {
    writer: Option<BufWriter<File>>,
    partial: PathBuf,
    target: PathBuf,
}

impl AtomicFile {
    /// Starts a file that will become `target`, in a folder that exists.
    ///
    /// # Errors
    /// If `target` names no file, is a folder, or its folder cannot be written.
    pub fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut partial_name = std::ffi::OsString::from(".");
        partial_name.push(name);
        partial_name.push(".partial");
        let partial = target.with_file_name(partial_name);
        let writer = BufWriter::with_capacity(1 << 16, File::create(&partial)?);
        Ok(Self { writer: Some(writer), partial, target: target.to_owned() })
    }

    /// Where the file will appear.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Brings everything written so far onto the disk, still under the partial name.
    ///
    /// Call it on each of several files before committing any, so that a full disk is noticed while
    /// all targets are untouched.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn sync(&mut self) -> io::Result<()> {
        let writer = self.open_writer();
        writer.flush()?;
        writer.get_ref().sync_all()
    }

    /// Puts the file in place of the target.
    ///
    /// # Errors
    /// If the disk is full or fails; the target is then as it was.
    pub fn commit(mut self) -> io::Result<()> {
        self.sync()?;
        // Windows refuses to rename an open file.
        self.writer = None;
        fs::rename(&self.partial, &self.target).inspect_err(|_| self.discard())?;
        sync_folder_of(&self.target)
    }

    fn open_writer(&mut self) -> &mut BufWriter<File> {
        self.writer.as_mut().expect("the writer is taken only by `commit`, which consumes the file")
    }

    fn discard(&self) {
        // Nothing more can be done about a partial file that will not go; the next write replaces it.
        let _ = fs::remove_file(&self.partial);
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open_writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open_writer().flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // `into_parts` drops the buffered bytes instead of writing them to a file about to go.
            drop(writer.into_parts());
            self.discard();
        }
    }
}

/// Replaces `target` by `bytes`, whole or not at all.
///
/// # Errors
/// Those of [`AtomicFile`]; the target is then as it was.
pub fn write_atomically(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(target)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Makes the rename itself durable; only Unix lets a folder be synced.
fn sync_folder_of(target: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_uncommitted_file_leaves_the_target_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("data.bin");
        fs::write(&target, b"old").unwrap();

        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        file.sync().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        drop(file);

        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["data.bin"]);
    }

    #[test]
    fn a_commit_replaces_the_target_and_a_stale_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("data.bin");
        fs::write(&target, b"old").unwrap();
        fs::write(folder.path().join(".data.bin.partial"), b"left by a killed run").unwrap();

        write_atomically(&target, b"new").unwrap();

        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["data.bin"]);
    }

    #[test]
    fn a_target_that_is_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomically(folder.path(), b"new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
