//! Checking a prepared folder, file by file, and going on after a failure to find the others.
//!
//! `Prepared::open` refuses a folder at its first fault; this says everything that is wrong with it, and
//! looks into the documents, too.

use std::collections::HashSet;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use smelt_text::{TOKENIZER_FILE, Tokenizer};

use super::open::{open_index, open_shard, open_tokenizer, read_meta};
use super::{
    DocumentIndex, META_FILE, Meta, ShardMeta, SplitRule, TRAIN_DOCUMENTS_FILE, TRAIN_FILE, TokenShard,
    VAL_DOCUMENTS_FILE, VAL_FILE,
};

/// Documents of a shard that are decoded, spread evenly over it.
const DECODED_DOCUMENTS: usize = 200;

/// Share of U+FFFD in a decoded document from which on it is not readable: a text may mention one.
const MAX_REPLACED: f64 = 0.01;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FolderCheck {
    /// What was looked at: a file, or what two of them have to do with each other.
    pub subject: String,
    /// Whether it is right.
    pub passed: bool,
    /// What was found; what is wrong where it is not right.
    pub finding: String,
}

/// Checks everything in `folder` that can be checked.
pub fn verify_folder(folder: &Path) -> Vec<FolderCheck> {
    let mut checks = Checks::default();
    let Some(meta) = checks.add(META_FILE, read_meta(folder), |meta| {
        format!("version {}, written by smelt {}", meta.version, meta.smelt_version)
    }) else {
        return checks.list;
    };
    let tokenizer = checks.add(TOKENIZER_FILE, open_tokenizer(folder, &meta), |tokenizer| {
        format!("{} tokens, SHA-256 agrees", tokenizer.vocab_size())
    });
    let train = checks.add_shard(folder, TRAIN_FILE, TRAIN_DOCUMENTS_FILE, &meta, &meta.train);
    let val = checks.add_shard(folder, VAL_FILE, VAL_DOCUMENTS_FILE, &meta, &meta.val);
    checks.add("counts", count(&meta), String::clone);
    for (name, shard) in [("train", &train), ("val", &val)] {
        let (Some(tokenizer), Some((shard, documents))) = (&tokenizer, shard) else { continue };
        checks.add(
            &format!("{name} documents"),
            read_documents(tokenizer, &meta, shard, documents),
            String::clone,
        );
    }
    if let (Some(train), Some(val)) = (&train, &val) {
        checks.add("train and val", disjoint(train, val), String::clone);
    }
    checks.list
}

#[derive(Default)]
struct Checks {
    list: Vec<FolderCheck>,
}

impl Checks {
    fn add<T, E: std::error::Error>(
        &mut self,
        subject: &str,
        outcome: Result<T, E>,
        describe: impl Fn(&T) -> String,
    ) -> Option<T> {
        let (passed, finding) = match &outcome {
            Ok(found) => (true, describe(found)),
            Err(error) => (false, with_causes(error)),
        };
        self.list.push(FolderCheck { subject: subject.to_owned(), passed, finding });
        outcome.ok()
    }

    fn add_shard(
        &mut self,
        folder: &Path,
        file: &str,
        index: &str,
        meta: &Meta,
        expected: &ShardMeta,
    ) -> Option<(TokenShard, DocumentIndex)> {
        let shard = self.add(file, open_shard(&folder.join(file), meta, expected), |shard| {
            format!("{} tokens, ids below {}, SHA-256 agrees", shard.len(), meta.vocab_size)
        });
        let documents = self.add(index, open_index(&folder.join(index), expected), |documents| {
            format!("{} documents, SHA-256 agrees", documents.len())
        });
        Some((shard?, documents?))
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text += &format!(": {current}");
        cause = current.source();
    }
    text
}

/// What a check found wrong that is no error of reading.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

/// Whether every document that was read is accounted for.
fn count(meta: &Meta) -> Result<String, Wrong> {
    let removed: u64 = meta.removed.values().sum();
    let kept = meta.sources.iter().map(|source| source.documents).sum::<u64>();
    if meta.read_documents != kept + removed {
        let read = meta.read_documents;
        return Err(Wrong(format!("{read} documents were read, but {kept} kept and {removed} removed")));
    }
    let (train, val) = (meta.train.documents, meta.val.documents);
    let agrees = match meta.split {
        SplitRule::Documents => train + val == kept,
        SplitRule::Tails => train == kept && val <= kept,
    };
    if !agrees {
        return Err(Wrong(format!("{kept} documents were kept, but the shards have {train} and {val}")));
    }
    Ok(format!("{} documents read = {kept} kept + {removed} removed", meta.read_documents))
}

/// Whether documents end where the index says, and decode to text.
fn read_documents(
    tokenizer: &Tokenizer,
    meta: &Meta,
    shard: &TokenShard,
    documents: &DocumentIndex,
) -> Result<String, Wrong> {
    let step = documents.len().div_ceil(DECODED_DOCUMENTS).max(1);
    let mut decoded = 0;
    for document in 0..documents.len() {
        let range = documents.range(document);
        let range = range.start as usize..range.end as usize;
        let last = range.end.checked_sub(1).filter(|last| *last >= range.start);
        let end = last.map(|last| shard.get(last..last + 1)[0]);
        if end.is_none() || meta.end_of_text.is_some() && end != meta.end_of_text {
            return Err(Wrong(format!("document {document} does not end with the end-of-text token")));
        }
        if document % step == 0 {
            check_readable(tokenizer, &shard.get(range))
                .map_err(|Wrong(reason)| Wrong(format!("document {document} {reason}")))?;
            decoded += 1;
        }
    }
    Ok(format!("{} end as the index says, {decoded} decoded to text", documents.len()))
}

fn check_readable(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), Wrong> {
    let text = tokenizer.decode(ids).map_err(|error| Wrong(format!("cannot be decoded: {error}")))?;
    let (mut characters, mut replaced) = (0_usize, 0_usize);
    for character in text.chars() {
        characters += 1;
        replaced += usize::from(character == char::REPLACEMENT_CHARACTER);
    }
    if replaced as f64 > MAX_REPLACED * characters as f64 {
        return Err(Wrong(format!("has {replaced} of {characters} characters that are none")));
    }
    Ok(())
}

/// Whether no document is in both shards.
fn disjoint(train: &(TokenShard, DocumentIndex), val: &(TokenShard, DocumentIndex)) -> Result<String, Wrong> {
    let held_out: HashSet<[u8; 16]> = digests(val).collect();
    let common = digests(train).filter(|digest| held_out.contains(digest)).count();
    match common {
        0 => Ok("no document in common".to_owned()),
        common => Err(Wrong(format!("{common} documents in common"))),
    }
}

fn digests((shard, documents): &(TokenShard, DocumentIndex)) -> impl Iterator<Item = [u8; 16]> + '_ {
    (0..documents.len()).map(move |document| {
        let range = documents.range(document);
        let digest: [u8; 32] = Sha256::digest(shard.raw(range.start as usize..range.end as usize)).into();
        digest[..16].try_into().expect("a digest has 32 bytes")
    })
}
