//! A file mapped into memory, whose pages can be given back range by range.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::ModelError;

/// The bytes of one file; they stay on disk until looked at.
#[derive(Debug, Clone)]
pub struct FileMap {
    path: PathBuf,
    map: Arc<Mmap>,
}

/// Keeps the map for tensors that lie in it.
pub(super) struct Shared(pub Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl FileMap {
    /// Maps `path`, which must be a regular file.
    ///
    /// # Errors
    /// [`ModelError::Io`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(ModelError::io("read", path))?;
        if !file.metadata().map_err(ModelError::io("read", path))?.is_file() {
            return Err(ModelError::io("read", path)(std::io::ErrorKind::InvalidInput.into()));
        }
        // SAFETY: the map is only read. A process that truncates the file meanwhile would raise SIGBUS, as
        // for every reader of mapped weights; smelt itself replaces files by rename and never in place.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io("map", path))?;
        Ok(Self { path: path.to_path_buf(), map: Arc::new(map) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The bytes of `range` for whoever outlives this: they are never written.
    pub(super) fn shared(&self, range: &Range<usize>) -> Bytes {
        Bytes::from_owner(Shared(self.map.clone())).slice(range.clone())
    }

    /// Lets the system drop the pages of `range` from this process. Looking again reads the disk again.
    pub(super) fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        {
            // SAFETY: the map is read-only and backed by a file, so dropped pages come back unchanged.
            #[allow(unsafe_code)]
            let advised = unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.map.unchecked_advise_range(advice, range.start, range.len())
            };
            if let Err(error) = advised {
                tracing::debug!(%error, path = %self.path.display(), "the system keeps the pages of a tensor");
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
