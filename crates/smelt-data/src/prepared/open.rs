//! Opening a prepared folder, with every check that keeps a damaged one out of a training run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use smelt_text::{TOKENIZER_FILE, Tokenizer};

use super::{
    DocumentIndex, META_FILE, META_VERSION, Meta, ShardMeta, TRAIN_DOCUMENTS_FILE, TRAIN_FILE, TokenDtype,
    TokenShard, VAL_DOCUMENTS_FILE, VAL_FILE,
};
use crate::DataError;

/// A prepared folder whose files agree with each other.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The folder.
    pub folder: PathBuf,
    /// What `meta.json` says.
    pub meta: Meta,
    /// The tokenizer of the shards.
    pub tokenizer: Tokenizer,
    /// What to train on.
    pub train: TokenShard,
    /// What to validate on; empty if nothing was held out.
    pub val: TokenShard,
    /// The documents of `train`.
    pub train_documents: DocumentIndex,
    /// The documents of `val`.
    pub val_documents: DocumentIndex,
}

impl Prepared {
    /// Opens `folder`; reads its files once to check them.
    ///
    /// # Errors
    /// [`DataError::NotPrepared`] if there is no `meta.json`; otherwise if a file is missing, its size,
    /// hash or ids are not what `meta.json` says, or the layout is of another version.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let meta = read_meta(folder)?;
        let tokenizer = open_tokenizer(folder, &meta)?;
        let train = open_shard(&folder.join(TRAIN_FILE), &meta, &meta.train)?;
        let val = open_shard(&folder.join(VAL_FILE), &meta, &meta.val)?;
        let train_documents = open_index(&folder.join(TRAIN_DOCUMENTS_FILE), &meta.train)?;
        let val_documents = open_index(&folder.join(VAL_DOCUMENTS_FILE), &meta.val)?;
        Ok(Self { folder: folder.to_owned(), meta, tokenizer, train, val, train_documents, val_documents })
    }
}

pub(super) fn read_meta(folder: &Path) -> Result<Meta, DataError> {
    let path = folder.join(META_FILE);
    let json = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if folder.is_dir() => DataError::NotPrepared { folder: folder.to_owned() },
        _ => DataError::io("read", &path)(source),
    })?;
    let bad = |source| DataError::BadMeta { path: path.clone(), source };
    // The version decides what else to expect, so it is looked at before the rest.
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(bad)?;
    if let Some(version) = value.get("version").filter(|version| **version != META_VERSION) {
        return Err(DataError::UnknownVersion { path, expected: META_VERSION, found: version.to_string() });
    }
    let meta: Meta = serde_json::from_value(value).map_err(bad)?;
    let expected = TokenDtype::for_vocab_size(meta.vocab_size);
    if meta.dtype != expected {
        let (found, vocab_size) = (meta.dtype, meta.vocab_size);
        return Err(DataError::WrongDtype { path, expected, found, vocab_size });
    }
    Ok(meta)
}

pub(super) fn open_tokenizer(folder: &Path, meta: &Meta) -> Result<Tokenizer, DataError> {
    let path = folder.join(TOKENIZER_FILE);
    let tokenizer = Tokenizer::from_file(&path)?;
    expect_equal(&path, "vocabulary size", &meta.vocab_size, &tokenizer.vocab_size())?;
    expect_equal(&path, "SHA-256", &meta.tokenizer_sha256, &tokenizer.sha256())?;
    Ok(tokenizer)
}

pub(super) fn open_shard(path: &Path, meta: &Meta, expected: &ShardMeta) -> Result<TokenShard, DataError> {
    let size_bytes = fs::metadata(path).map_err(DataError::io("read", path))?.len();
    let expected_bytes = expected.tokens.saturating_mul(meta.dtype.bytes() as u64);
    expect_equal(path, "size in bytes", &expected_bytes, &size_bytes)?;
    let shard = TokenShard::open(path, meta.dtype)?;
    if let Some((position, id)) = shard.first_id_out_of_range(meta.vocab_size) {
        let vocab_size = meta.vocab_size;
        return Err(DataError::IdOutOfRange { path: path.to_owned(), position, id, vocab_size });
    }
    expect_equal(path, "SHA-256", &expected.sha256, &shard.sha256())?;
    Ok(shard)
}

pub(super) fn open_index(path: &Path, expected: &ShardMeta) -> Result<DocumentIndex, DataError> {
    let index = DocumentIndex::open(path, expected.tokens)?;
    expect_equal(path, "documents", &expected.documents, &(index.len() as u64))?;
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path).map_err(DataError::io("read", path))?;
    io::copy(&mut file, &mut hasher).map_err(DataError::io("read", path))?;
    expect_equal(path, "SHA-256", &expected.documents_sha256, &format!("{:x}", hasher.finalize()))?;
    Ok(index)
}

fn expect_equal<T: PartialEq + ToString>(
    path: &Path,
    what: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), DataError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(DataError::Disagrees { path: path.to_owned(), what, expected, found })
}
