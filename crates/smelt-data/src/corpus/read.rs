//! Reading documents from files and folders.
//!
//! A file is a document; a `.jsonl` file is one document per record. Compressed files are counted, not
//! read. The whole corpus is held in memory, within the limits of [`ReadOptions`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::jsonl;
use super::walk::{Found, Step, Walk};
use super::{Corpus, FileKind, SkipReason};
use crate::DataError;

/// What to take and how much of it.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Kinds of files to take out of folders; empty for every kind. Inputs that are files are taken anyway.
    pub kinds: Vec<FileKind>,
    /// Files over this many bytes are skipped.
    pub max_file_bytes: u64,
    /// Texts are taken until they would be over this many bytes together.
    pub max_total_bytes: u64,
    /// What to do about a file that is not UTF-8.
    pub invalid_utf8: OnInvalidUtf8,
    /// What to do about a line of a `.jsonl` that is not a record with a text.
    pub bad_line: OnBadLine,
}

/// What to do about a file that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalidUtf8 {
    /// Leave the file out.
    Skip,
    /// Take it with U+FFFD for every invalid sequence.
    Replace,
}

/// What to do about a line of a `.jsonl` that is not a record with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadLine {
    /// Stop with an error that names file and line.
    Fail,
    /// Leave the line out.
    Skip,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            max_file_bytes: 256 << 20,
            max_total_bytes: 1 << 30,
            invalid_utf8: OnInvalidUtf8::Skip,
            bad_line: OnBadLine::Fail,
        }
    }
}

/// Reads the documents of `inputs`, files or folders, in an order that depends on names alone.
///
/// Whatever is not taken is counted in [`Corpus::skipped`]; a file in a folder that cannot be read is
/// no error. Exact copies of earlier documents are left out.
///
/// # Errors
/// If an input does not exist, a `.jsonl` has a bad line (see [`ReadOptions::bad_line`]), or nothing is
/// left to learn from.
pub fn read_documents(inputs: &[PathBuf], options: &ReadOptions) -> Result<Corpus, DataError> {
    for input in inputs {
        fs::metadata(input).map_err(DataError::io("read", input))?;
    }
    let mut reader = Reader { options, corpus: Corpus::default(), total_bytes: 0, is_full: false };
    for step in Walk::new(inputs) {
        reader.take(step)?;
    }
    let corpus = reader.corpus;
    if corpus.documents.is_empty() {
        let inputs: Vec<String> = inputs.iter().map(|path| format!("`{}`", path.display())).collect();
        return Err(DataError::NoDocuments { inputs: inputs.join(", "), skipped: corpus.skipped });
    }
    Ok(corpus)
}

struct Reader<'o> {
    options: &'o ReadOptions,
    corpus: Corpus,
    total_bytes: u64,
    is_full: bool,
}

/// The text of a file, and whether invalid UTF-8 was replaced in it.
struct Content {
    text: String,
    repaired: bool,
}

impl Reader<'_> {
    fn take(&mut self, step: Step) -> Result<(), DataError> {
        match step {
            Step::File(found) => self.take_file(&found)?,
            Step::Special(path) => self.skip(SkipReason::NotAFile, &path),
            Step::Unreadable(path, error) => self.skip_unreadable(&path, &error),
        }
        Ok(())
    }

    fn take_file(&mut self, found: &Found) -> Result<(), DataError> {
        let path = &found.path;
        if self.is_full {
            self.skip(SkipReason::OverTotal, path);
            return Ok(());
        }
        let content = match self.read(found) {
            Ok(Ok(content)) => content,
            Ok(Err(reason)) => {
                self.skip(reason, path);
                return Ok(());
            }
            Err(error) => {
                self.skip_unreadable(path, &error);
                return Ok(());
            }
        };
        self.corpus.repaired += usize::from(content.repaired);
        if has_extension(path, &["jsonl"]) {
            return self.add_records(path, &content.text);
        }
        self.add(path.display().to_string(), content.text);
        Ok(())
    }

    /// Reads no more of the file than it takes to know that it is not wanted.
    fn read(&self, found: &Found) -> io::Result<Result<Content, SkipReason>> {
        let path = &found.path;
        if has_extension(path, COMPRESSED_EXTENSIONS) {
            return Ok(Err(SkipReason::Compressed));
        }
        let max_bytes = self.options.max_file_bytes;
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        file.by_ref().take(HEAD_BYTES).read_to_end(&mut bytes)?;
        if bytes.contains(&0) {
            return Ok(Err(SkipReason::Binary));
        }
        if !found.named && !self.wants(FileKind::of(path, &String::from_utf8_lossy(&bytes))) {
            return Ok(Err(SkipReason::OtherKind));
        }
        let is_small = file.metadata()?.len() <= max_bytes;
        if is_small {
            // The limit holds even for a file that grows.
            file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        }
        if !is_small || bytes.len() as u64 > max_bytes {
            return Ok(Err(SkipReason::TooLarge));
        }
        if bytes.contains(&0) {
            return Ok(Err(SkipReason::Binary));
        }
        Ok(self.decode(bytes))
    }

    fn decode(&self, bytes: Vec<u8>) -> Result<Content, SkipReason> {
        let (text, repaired) = match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(_) if self.options.invalid_utf8 == OnInvalidUtf8::Skip => {
                return Err(SkipReason::InvalidUtf8);
            }
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
        };
        let text = match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        Ok(Content { text, repaired })
    }

    fn add_records(&mut self, path: &Path, file: &str) -> Result<(), DataError> {
        for (line, record) in jsonl::records(file) {
            let source = format!("{}:{line}", path.display());
            match record {
                Ok(text) => self.add(source, text),
                Err(_) if self.options.bad_line == OnBadLine::Skip => {
                    self.corpus.skipped.add(SkipReason::BadLine, source);
                }
                Err(reason) => return Err(DataError::BadLine { path: path.to_owned(), line, reason }),
            }
        }
        Ok(())
    }

    fn add(&mut self, source: String, text: String) {
        let total_bytes = self.total_bytes + text.len() as u64;
        self.is_full |= total_bytes > self.options.max_total_bytes;
        if self.is_full {
            self.corpus.skipped.add(SkipReason::OverTotal, source);
            return;
        }
        let documents = self.corpus.documents.len();
        self.corpus.add(source, text);
        if self.corpus.documents.len() > documents {
            self.total_bytes = total_bytes;
        }
    }

    fn wants(&self, kind: FileKind) -> bool {
        self.options.kinds.is_empty() || self.options.kinds.contains(&kind)
    }

    fn skip(&mut self, reason: SkipReason, path: &Path) {
        self.corpus.skipped.add(reason, path.display().to_string());
    }

    fn skip_unreadable(&mut self, path: &Path, error: &io::Error) {
        self.corpus.skipped.add(SkipReason::Unreadable, format!("{}: {error}", path.display()));
    }
}

/// Enough to tell a binary file and to read the first line of a script.
const HEAD_BYTES: u64 = 8 << 10;

const BYTE_ORDER_MARK: char = '\u{FEFF}';

const COMPRESSED_EXTENSIONS: &[&str] =
    &["gz", "tgz", "zst", "xz", "txz", "bz2", "tbz", "lz4", "lzma", "br", "zip", "7z", "tar"];

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let is = |known: &&str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(known));
    extensions.iter().any(is)
}
