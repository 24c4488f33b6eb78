//! Files of token ids: written once, then memory-mapped.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
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
        let bytes = self.raw(range);
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

    /// The bytes of the ids of `range`.
    pub(crate) fn raw(&self, range: Range<usize>) -> &[u8] {
        let size = self.dtype.bytes();
        &self.bytes()[range.start * size..range.end * size]
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

/// Writes a shard and the index of its documents; the files appear on [`ShardWriter::commit`].
#[derive(Debug)]
pub struct ShardWriter {
    tokens: HashedFile,
    documents: HashedFile,
    dtype: TokenDtype,
    /// Where the next document begins.
    offset: u64,
    count: u64,
    text_bytes: u64,
}

impl ShardWriter {
    /// Begins `NAME.bin` and `NAME.documents.bin` in `folder`.
    pub fn create(folder: &Path, name: &str, dtype: TokenDtype) -> Result<Self, DataError> {
        let tokens = HashedFile::create(&folder.join(format!("{name}.bin")))?;
        let documents = HashedFile::create(&folder.join(format!("{name}.documents.bin")))?;
        Ok(Self { tokens, documents, dtype, offset: 0, count: 0, text_bytes: 0 })
    }

    /// Appends ids as they lie in the file at `path`, which `reader` reads.
    pub fn append_tokens(&mut self, reader: &mut dyn Read, path: &Path) -> Result<(), DataError> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer).map_err(DataError::io("read", path))? {
                0 => return Ok(()),
                length => self.tokens.write(&buffer[..length])?,
            }
        }
    }

    /// Says that the next `length` tokens are a document.
    pub fn append_document(&mut self, length: u64) -> Result<(), DataError> {
        let offset = self.offset;
        self.offset += length;
        self.count += 1;
        self.documents.write(&offset.to_le_bytes())
    }

    /// Counts the length of texts, for the record.
    pub fn add_text_bytes(&mut self, text_bytes: u64) {
        self.text_bytes += text_bytes;
    }

    /// Ends the files and brings them onto the disk; says what they are.
    ///
    /// # Panics
    /// If the documents are not as long as the tokens.
    pub fn sync(&mut self) -> Result<ShardMeta, DataError> {
        let tokens = self.tokens.bytes / self.dtype.bytes() as u64;
        assert_eq!(tokens, self.offset, "tokens of the shard, tokens of its documents");
        self.documents.write(&self.offset.to_le_bytes())?;
        Ok(ShardMeta {
            tokens,
            documents: self.count,
            text_bytes: self.text_bytes,
            sha256: self.tokens.sync()?,
            documents_sha256: self.documents.sync()?,
        })
    }

    pub fn commit(self) -> Result<(), DataError> {
        self.documents.commit()?;
        self.tokens.commit()
    }
}

/// A file under construction and the hash of what was written.
#[derive(Debug)]
struct HashedFile {
    file: AtomicFile,
    hasher: Sha256,
    bytes: u64,
}

impl HashedFile {
    fn create(path: &Path) -> Result<Self, DataError> {
        let file = AtomicFile::create(path).map_err(DataError::io("write", path))?;
        Ok(Self { file, hasher: Sha256::new(), bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(DataError::io("write", self.file.target()))
    }

    fn sync(&mut self) -> Result<String, DataError> {
        let target = self.file.target().to_owned();
        self.file.sync().map_err(DataError::io("write", &target))?;
        Ok(format!("{:x}", self.hasher.clone().finalize()))
    }

    fn commit(self) -> Result<(), DataError> {
        let target = self.file.target().to_owned();
        self.file.commit().map_err(DataError::io("write", &target))
    }
}
