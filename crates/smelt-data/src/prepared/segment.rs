//! Segments: the parts in which a preparation proceeds, as files of its work folder.
//!
//! First the kept texts of a stretch of the inputs (`N.texts`, `N.keys`, `N.json`), then their tokens
//! (`N.train.bin`, `N.train.lengths`, the same for `val`, `N.tokens.json`). The JSON file comes last and
//! vouches for the others. Cutting into segments changes nothing in the result.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smelt_text::{AtomicFile, write_atomically};

use super::TokenDtype;
use super::tally::Tally;
use crate::DataError;
use crate::corpus::Position;
use crate::sift::Fingerprint;

/// What is known of a finished segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Where the next segment begins.
    pub next: Position,
    /// The inputs end with this segment.
    pub is_last: bool,
    /// What it counts.
    pub tally: Tally,
}

/// What a segment gave to the shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensRecord {
    pub train: PartRecord,
    pub val: PartRecord,
}

/// What a segment gave to one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    pub tokens: u64,
    pub documents: u64,
    pub text_bytes: u64,
}

/// The files of one segment.
#[derive(Debug, Clone)]
pub struct Segment {
    folder: PathBuf,
    index: usize,
}

impl Segment {
    pub fn new(folder: &Path, index: usize) -> Self {
        Self { folder: folder.to_owned(), index }
    }

    pub fn texts(&self) -> PathBuf {
        self.file("texts")
    }

    pub fn keys(&self) -> PathBuf {
        self.file("keys")
    }

    /// The tokens for a shard, `train` or `val`.
    pub fn tokens(&self, shard: &str) -> PathBuf {
        self.file(&format!("{shard}.bin"))
    }

    /// The lengths of documents in those tokens.
    pub fn lengths(&self, shard: &str) -> PathBuf {
        self.file(&format!("{shard}.lengths"))
    }

    /// The record of the texts, if they are complete.
    pub fn record(&self) -> Result<Option<SegmentRecord>, DataError> {
        read_record(&self.file("json"))
    }

    /// The record of the tokens, if they are complete.
    pub fn tokens_record(&self) -> Result<Option<TokensRecord>, DataError> {
        read_record(&self.file("tokens.json"))
    }

    /// Vouches for the tokens; the texts are of no more use.
    pub fn finish_tokens(&self, record: &TokensRecord) -> Result<(), DataError> {
        write_record(&self.file("tokens.json"), record)?;
        let texts = self.texts();
        fs::remove_file(&texts).map_err(DataError::io("delete", &texts))
    }

    /// Reads the texts from the beginning.
    pub fn open_texts(&self) -> Result<TextReader, DataError> {
        let path = self.texts();
        let file = File::open(&path).map_err(DataError::io("read", &path))?;
        Ok(TextReader { reader: BufReader::with_capacity(1 << 20, file), path })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{:06}.{name}", self.index))
    }
}

fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DataError> {
    match fs::read(path) {
        Ok(json) => serde_json::from_slice(&json)
            .map(Some)
            .map_err(|source| DataError::BadMeta { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}

fn write_record(path: &Path, record: &impl Serialize) -> Result<(), DataError> {
    let json = serde_json::to_vec(record).expect("records are plain data");
    write_atomically(path, &json).map_err(DataError::io("write", path))
}

/// A kept text with the beginning of its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptText {
    pub digest: [u8; 16],
    pub text: String,
}

/// Writes the texts of a segment.
pub struct TextWriter {
    segment: Segment,
    texts: AtomicFile,
    keys: AtomicFile,
}

impl TextWriter {
    pub fn create(segment: Segment) -> Result<Self, DataError> {
        let create = |path: PathBuf| AtomicFile::create(&path).map_err(DataError::io("write", &path));
        Ok(Self { texts: create(segment.texts())?, keys: create(segment.keys())?, segment })
    }

    pub fn append(&mut self, text: &str, fingerprint: &Fingerprint) -> Result<(), DataError> {
        let mut head = [0; 24];
        head[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
        head[8..].copy_from_slice(&fingerprint.digest);
        let mut key = Vec::new();
        fingerprint.encode(&mut key);
        let written = self.texts.write_all(&head).and_then(|()| self.texts.write_all(text.as_bytes()));
        written.map_err(DataError::io("write", self.texts.target()))?;
        self.keys.write_all(&key).map_err(DataError::io("write", self.keys.target()))
    }

    pub fn finish(self, record: &SegmentRecord) -> Result<(), DataError> {
        let Self { segment, texts, keys } = self;
        for file in [texts, keys] {
            let path = file.target().to_owned();
            file.commit().map_err(DataError::io("write", &path))?;
        }
        write_record(&segment.file("json"), record)
    }
}

/// Reads the texts of a segment in order.
pub struct TextReader {
    reader: BufReader<File>,
    path: PathBuf,
}

impl TextReader {
    fn read(&mut self) -> io::Result<Option<KeptText>> {
        let mut head = [0; 24];
        if self.reader.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        self.reader.read_exact(&mut head[1..])?;
        let (length, digest) = head.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("split at 8"));
        let mut text = String::new();
        if self.reader.by_ref().take(length).read_to_string(&mut text)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(KeptText { digest: digest.try_into().expect("16 are left"), text }))
    }
}

impl Iterator for TextReader {
    type Item = Result<KeptText, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(DataError::io("read", &self.path)).transpose()
    }
}

/// Writes the tokens that a segment gives to one shard.
pub struct PartWriter {
    tokens: AtomicFile,
    lengths: AtomicFile,
    dtype: TokenDtype,
    record: PartRecord,
}

impl PartWriter {
    pub fn create(segment: &Segment, shard: &str, dtype: TokenDtype) -> Result<Self, DataError> {
        let create = |path: PathBuf| AtomicFile::create(&path).map_err(DataError::io("write", &path));
        let (tokens, lengths) = (create(segment.tokens(shard))?, create(segment.lengths(shard))?);
        Ok(Self { tokens, lengths, dtype, record: PartRecord::default() })
    }

    /// Appends a document of `text_bytes` bytes.
    pub fn append(&mut self, ids: &[u32], end: Option<u32>, text_bytes: usize) -> Result<(), DataError> {
        let length = (ids.len() + usize::from(end.is_some())) as u64;
        self.record.tokens += length;
        self.record.documents += 1;
        self.record.text_bytes += text_bytes as u64;
        let bytes = self.dtype.encode(ids.iter().copied().chain(end));
        self.tokens.write_all(&bytes).map_err(DataError::io("write", self.tokens.target()))?;
        self.lengths.write_all(&length.to_le_bytes()).map_err(DataError::io("write", self.lengths.target()))
    }

    pub fn finish(self) -> Result<PartRecord, DataError> {
        for file in [self.tokens, self.lengths] {
            let path = file.target().to_owned();
            file.commit().map_err(DataError::io("write", &path))?;
        }
        Ok(self.record)
    }
}
