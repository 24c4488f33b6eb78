//! The work folder of a preparation: what an interrupted one left, and a lock against a second one.
//!
//! `OUTPUT/.prepare` holds `plan.json`, which says what is being prepared and how, the spool of standard
//! input, and `segments/`. Work that was done for another plan is thrown away.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use smelt_text::{AtomicFile, write_atomically};

use super::segment::{Segment, SegmentRecord};
use crate::DataError;

/// Name of the work folder in the output.
const WORK_FOLDER: &str = ".prepare";

/// How long a lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// The work folder, held by this process.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    /// Locked while the file is open.
    _lock: File,
}

impl WorkFolder {
    /// Makes or reopens the work folder of `output`.
    ///
    /// # Errors
    /// [`DataError::Busy`] if another process prepares the same output.
    pub fn open(output: &Path) -> Result<Self, DataError> {
        let path = output.join(WORK_FOLDER);
        fs::create_dir_all(&path).map_err(DataError::io("create", &path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(DataError::io("create", &lock_path))?;
        if is_locked_elsewhere(&lock) {
            return Err(DataError::Busy { folder: output.to_owned() });
        }
        Ok(Self { path, _lock: lock })
    }

    /// Where standard input is spooled.
    pub fn stdin(&self) -> PathBuf {
        self.path.join("stdin")
    }

    /// Where the table of keys spills to.
    pub fn spill(&self) -> PathBuf {
        self.path.join("spill")
    }

    /// Makes the folder for spilled keys, or empties it.
    pub fn clear_spill(&self) -> Result<(), DataError> {
        let path = self.spill();
        remove_folder(&path)?;
        fs::create_dir_all(&path).map_err(DataError::io("create", &path))
    }

    /// Where a trained tokenizer waits for the rest.
    pub fn tokenizer(&self) -> PathBuf {
        self.path.join("tokenizer.json")
    }

    /// Copies `input` into the spool.
    pub fn spool(&self, input: &mut dyn io::Read) -> Result<(), DataError> {
        let path = self.stdin();
        let mut copy = || -> io::Result<()> {
            let mut file = AtomicFile::create(&path)?;
            io::copy(input, &mut file)?;
            file.commit()
        };
        copy().map_err(DataError::io("write", &path))
    }

    /// Keeps the work that was done for `plan`; throws away what was done for another one.
    pub fn adopt(&self, plan: &str) -> Result<(), DataError> {
        let path = self.path.join("plan.json");
        if fs::read_to_string(&path).is_ok_and(|before| before == plan) {
            return Ok(());
        }
        remove_folder(&self.segments())?;
        for file in [&path, &self.tokenizer()] {
            if file.exists() {
                fs::remove_file(file).map_err(DataError::io("delete", file))?;
            }
        }
        let segments = self.segments();
        fs::create_dir_all(&segments).map_err(DataError::io("create", &segments))?;
        write_atomically(&path, plan.as_bytes()).map_err(DataError::io("write", &path))
    }

    /// The segment of `index`, whether or not it exists.
    pub fn segment(&self, index: usize) -> Segment {
        Segment::new(&self.segments(), index)
    }

    /// The finished segments in order.
    pub fn finished(&self) -> Result<Vec<(Segment, SegmentRecord)>, DataError> {
        let mut finished = Vec::new();
        while let Some(record) = self.segment(finished.len()).record()? {
            finished.push((self.segment(finished.len()), record));
        }
        Ok(finished)
    }

    /// Deletes the folder; the work is done.
    pub fn remove(self) -> Result<(), DataError> {
        // The plan goes first: what is left after a kill within belongs to no plan.
        let plan = self.path.join("plan.json");
        fs::remove_file(&plan).map_err(DataError::io("delete", &plan))?;
        remove_folder(&self.path)
    }

    fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }
}

/// Tries to lock `file`. A process that was killed holds its lock until the system has cleared it away, so
/// this takes a moment to be sure.
fn is_locked_elsewhere(file: &File) -> bool {
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => thread::sleep(LOCK_PATIENCE / 60),
            Err(TryLockError::WouldBlock) => return true,
            // A file system without locks: a second process is then not noticed.
            Ok(()) | Err(TryLockError::Error(_)) => return false,
        }
    }
}

fn remove_folder(path: &Path) -> Result<(), DataError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DataError::io("delete", path)(error)),
        _ => Ok(()),
    }
}
