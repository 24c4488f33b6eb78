//! One document at a time: from bytes to a text worth keeping, or the reason why it is not.
//!
//! Everything here is a function of the document alone, so documents are sifted on all cores at once.
//! What depends on other documents is in `duplicates`.

mod code;
mod duplicates;
mod key_table;
mod minhash;
mod prose;
mod recipe;
mod script;
mod secrets;

use std::path::Path;

use sha2::{Digest, Sha256};

pub(crate) use duplicates::{Fingerprint, Kept};
pub(crate) use key_table::KeyTable;

pub use duplicates::Dedup;
pub use recipe::{Recipe, SizeLimits};
pub use secrets::Scrubbed;

use crate::corpus::{Content, Decoded, Form, Item, Position, RawDocument, decode, normalized, record_text};
use crate::{DataError, FileKind, OnBadLine, ReadOptions, Reason};

/// How to sift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiftOptions {
    pub read: ReadOptions,
    pub recipe: Recipe,
    pub sizes: SizeLimits,
    pub dedup: Dedup,
    pub scrub_secrets: bool,
}

/// An item of the inputs after sifting.
#[derive(Debug)]
pub struct Sifted {
    pub origin: Origin,
    pub outcome: Outcome,
}

/// Where an item is from.
#[derive(Debug)]
pub struct Origin {
    /// Index of the input.
    pub input: usize,
    /// Where to read on after it.
    pub next: Position,
    /// A path, `PATH:LINE`, or a given name; with an explanation where one is needed.
    pub source: String,
    /// Its length as it was found.
    pub bytes: u64,
    /// What of that was read.
    pub read_bytes: u64,
    /// How much of the files was read up to here, in bytes of the disk.
    pub passed_bytes: u64,
}

/// What became of an item.
#[derive(Debug)]
pub enum Outcome {
    Kept(Candidate),
    Removed(Reason),
}

/// A document that is kept unless it is a copy of another.
#[derive(Debug)]
pub struct Candidate {
    pub text: String,
    pub fingerprint: Fingerprint,
    pub repaired: bool,
    pub scrubbed: Scrubbed,
}

/// Decodes, filters, scrubs and fingerprints an item.
///
/// # Errors
/// [`DataError::BadLine`] for a record without a text, if those are not to be skipped.
pub fn sift(item: Item, options: &SiftOptions) -> Result<Sifted, DataError> {
    let Item { input, next, mut source, content, passed_bytes } = item;
    let (bytes, read_bytes, outcome) = match content {
        Content::Removed { reason, bytes } => {
            // The rest is told by a name or the first bytes.
            let is_read = matches!(reason, Reason::LongLine | Reason::TooLarge);
            (bytes, if is_read { bytes } else { 0 }, Outcome::Removed(reason))
        }
        Content::Raw(raw) => {
            let bytes = raw.bytes.len() as u64;
            let outcome = match examine(raw, options) {
                Ok(candidate) => Outcome::Kept(candidate),
                Err(Rejection::Removed(reason)) => Outcome::Removed(reason),
                Err(Rejection::Explained(reason, why)) => {
                    source += &format!(": {why}");
                    Outcome::Removed(reason)
                }
                Err(Rejection::Fatal(error)) => return Err(error),
            };
            (bytes, bytes, outcome)
        }
    };
    Ok(Sifted { origin: Origin { input, next, source, bytes, read_bytes, passed_bytes }, outcome })
}

/// Why a document is not kept.
enum Rejection {
    Removed(Reason),
    Explained(Reason, String),
    Fatal(DataError),
}

fn examine(raw: RawDocument, options: &SiftOptions) -> Result<Candidate, Rejection> {
    let path = raw.path.clone();
    if raw.bytes.contains(&0) {
        return Err(Rejection::Removed(Reason::Binary));
    }
    let file_kind = raw.kind;
    let Decoded { text, repaired } = decoded(raw, options)?;
    if text.trim().is_empty() {
        return Err(Rejection::Removed(Reason::Empty));
    }
    // Files were chosen by kind when they were opened. What a record is, only a `#!` line says.
    let kind = file_kind.or_else(|| text.starts_with("#!").then(|| FileKind::of(Path::new(""), &text)));
    let is_wanted = |kind| options.read.kinds.is_empty() || options.read.kinds.contains(&kind);
    if file_kind.is_none() && kind.is_some_and(|kind| !is_wanted(kind)) {
        return Err(Rejection::Removed(Reason::OtherKind));
    }
    if let Some(reason) = judge(&path, kind, &text, options) {
        return Err(Rejection::Removed(reason));
    }
    let (text, scrubbed) =
        if options.scrub_secrets { secrets::scrub(text) } else { (text, Scrubbed::default()) };
    let digest: [u8; 32] = Sha256::digest(&text).into();
    let signature = (options.dedup == Dedup::Near).then(|| Box::new(minhash::signature(&text)));
    let digest = digest[..16].try_into().expect("a digest has 32 bytes");
    let fingerprint = Fingerprint { digest, signature };
    Ok(Candidate { text, fingerprint, repaired, scrubbed })
}

fn decoded(raw: RawDocument, options: &SiftOptions) -> Result<Decoded, Rejection> {
    let line = raw.line;
    match raw.form {
        Form::Text => decode(raw.bytes, options.read.invalid_utf8).map_err(|lines| {
            Rejection::Explained(Reason::NotUtf8, format!("line {} is not UTF-8", line + lines as u64))
        }),
        Form::JsonLine => match parse_record(&raw.bytes, options) {
            Ok(text) => Ok(Decoded { text: normalized(text), repaired: false }),
            Err(reason) if options.read.bad_input == OnBadLine::Skip => {
                Err(Rejection::Explained(Reason::BadRecord, reason))
            }
            Err(reason) => {
                let path = raw.path.to_path_buf();
                Err(Rejection::Fatal(DataError::BadLine { path, line, reason }))
            }
        },
    }
}

fn parse_record(line: &[u8], options: &SiftOptions) -> Result<String, String> {
    let line = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
    record_text(line.trim(), &options.read.text_field)
}

fn judge(path: &Path, kind: Option<FileKind>, text: &str, options: &SiftOptions) -> Option<Reason> {
    let size = options.sizes.judge(text.len() as u64);
    size.or_else(|| code::judge(kind, text)).or_else(|| match options.recipe {
        Recipe::Any => None,
        Recipe::Prose => prose::judge(text),
        Recipe::Bash => script::judge(path, text),
    })
}
