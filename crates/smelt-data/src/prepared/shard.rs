//! Files of token ids: written once, then memory-mapped.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use sha2::{Digest, Sha256};
use smelt_text::AtomicFile;

use super::{ShardMeta, TokenDtype};
use crate::DataError;

/// A memory-mapped file of token ids; clones share the mapping.
#[derive(Clone)]
pub struct TokenShard {
    path: PathBuf,
    dtype: TokenDtype,
    /// None for an empty file, which cannot be mapped everywhere.
    map: Option<Arc<Mmap>>,
    len: usize,
}

impl TokenShard {
    /// Maps the file at `path`, whose size must be a multiple of an id's.
    ///
    /// # Errors
    /// If the file cannot be read, or ends within an id.
    pub fn open(path: &Path, dtype: TokenDtype) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("read", path))?;
        let bytes = file.metadata().map_err(DataError::io("read", path))?.len();
        if bytes % dtype.bytes() as u64 != 0 {
            return Err(DataError::PartialToken { path: path.to_owned(), bytes, dtype });
        }
        let map = match bytes {
            0 => None,
            _ => Some(Arc::new(map(&file).map_err(DataError::io("read", path))?)),
        };
        let len = map.as_ref().map_or(0, |map| map.len() / dtype.bytes());
        Ok(Self { path: path.to_owned(), dtype, map, len })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How ids are stored.
    pub fn dtype(&self) -> TokenDtype {
        self.dtype
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no id.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ids of `range`.
    ///
    /// # Panics
    /// If `range` reaches past [`TokenShard::len`].
    pub fn get(&self, range: Range<usize>) -> Vec<u32> {
        assert!(range.end <= self.len, "tokens {range:?} of a shard of {}", self.len);
        let size = self.dtype.bytes();
        let bytes = &self.bytes()[range.start * size..range.end * size];
        match self.dtype {
            TokenDtype::U16 => {
                let (ids, _) = bytes.as_chunks();
                ids.iter().map(|id| u16::from_le_bytes(*id).into()).collect()
            }
            TokenDtype::U32 => {
                let (ids, _) = bytes.as_chunks();
                ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
            }
        }
    }

    /// The first token that is not below `vocab_size`, with its position.
    pub(crate) fn first_id_out_of_range(&self, vocab_size: usize) -> Option<(usize, u32)> {
        const STEP: usize = 1 << 16;
        (0..self.len).step_by(STEP).find_map(|start| {
            let ids = self.get(start..self.len.min(start + STEP));
            let at = ids.iter().position(|&id| id as usize >= vocab_size)?;
            Some((start + at, ids[at]))
        })
    }

    /// SHA-256 of the file, in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        format!("{:x}", Sha256::digest(self.bytes()))
    }

    fn bytes(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| map)
    }
}

impl fmt::Debug for TokenShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, dtype, len, .. } = self;
        f.debug_struct("TokenShard").field("path", path).field("dtype", dtype).field("len", len).finish()
    }
}

/// Maps a file of a prepared folder.
#[allow(unsafe_code)]
pub fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: shards are replaced by renaming, never changed in place, so the mapped bytes stay as they
    // are. Somebody else truncating the file would end the process by a signal, as with any mapping.
    unsafe { Mmap::map(file) }
}

/// Writes a shard; the file appears on [`ShardWriter::commit`].
#[derive(Debug)]
pub struct ShardWriter {
    file: AtomicFile,
    dtype: TokenDtype,
    hasher: Sha256,
    tokens: u64,
    documents: u64,
    text_bytes: u64,
}

impl ShardWriter {
    pub fn create(path: &Path, dtype: TokenDtype) -> Result<Self, DataError> {
        let file = AtomicFile::create(path).map_err(DataError::io("write", path))?;
        Ok(Self { file, dtype, hasher: Sha256::new(), tokens: 0, documents: 0, text_bytes: 0 })
    }

    /// Appends the ids of a document of `text_bytes` bytes and the token that ends it.
    ///
    /// # Panics
    /// If an id does not fit the dtype.
    pub fn append(&mut self, ids: &[u32], end_of_text: u32, text_bytes: usize) -> Result<(), DataError> {
        let ids = ids.iter().chain(std::iter::once(&end_of_text));
        let bytes: Vec<u8> = match self.dtype {
            TokenDtype::U16 => ids
                .flat_map(|&id| u16::try_from(id).expect("ids are below a vocabulary of 65536").to_le_bytes())
                .collect(),
            TokenDtype::U32 => ids.flat_map(|id| id.to_le_bytes()).collect(),
        };
        self.hasher.update(&bytes);
        self.tokens += (bytes.len() / self.dtype.bytes()) as u64;
        self.documents += 1;
        self.text_bytes += text_bytes as u64;
        self.file.write_all(&bytes).map_err(DataError::io("write", self.file.target()))
    }

    /// Brings the bytes onto the disk; says what they are.
    pub fn sync(&mut self) -> Result<ShardMeta, DataError> {
        let target = self.file.target().to_owned();
        self.file.sync().map_err(DataError::io("write", &target))?;
        Ok(ShardMeta {
            tokens: self.tokens,
            documents: self.documents,
            text_bytes: self.text_bytes,
            sha256: format!("{:x}", self.hasher.clone().finalize()),
        })
    }

    pub fn commit(self) -> Result<(), DataError> {
        let target = self.file.target().to_owned();
        self.file.commit().map_err(DataError::io("write", &target))
    }
}
