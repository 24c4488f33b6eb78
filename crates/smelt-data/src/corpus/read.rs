//! Reading documents from files, one after the other.
//!
//! A file is a document, or several where it is very long; a record of a `.jsonl` or `.parquet` file is
//! one. Nothing is decoded here: that is work for all cores. Memory is bounded by the longest piece.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::encoding::{Utf16, Utf16Reader};
use super::files::{Entry, Files};
use super::format::{Compression, Format, Layout, decompressed, read_up_to};
use super::lines::{Lines, Parts, Piece};
use super::parquet::Rows;
use super::walk::{FoundFile, Step};
use super::{FileKind, OnInvalidUtf8, Reason};
use crate::DataError;

/// What to take, and what to do about broken input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// Kinds of files to take out of folders; empty for every kind. Inputs that are files are taken anyway.
    pub kinds: Vec<FileKind>,
    /// Field of a record, or column, that holds the text.
    pub text_field: String,
    /// What to do about text that is not UTF-8.
    pub invalid_utf8: OnInvalidUtf8,
    /// What to do about bad records and damaged files.
    pub bad_input: OnBadLine,
    /// Longer files are cut into parts at line ends; longer lines are left out.
    pub max_document_bytes: usize,
}

/// What to do about a record without a text, or a file that is cut or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadLine {
    /// Stop with an error that names file and line.
    Fail,
    /// Leave it out and count it.
    Skip,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            text_field: "text".to_owned(),
            invalid_utf8: OnInvalidUtf8::Skip,
            bad_input: OnBadLine::Fail,
            max_document_bytes: 16 << 20,
        }
    }
}

/// A place between two documents of the inputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Files before it.
    pub file: u64,
    /// Documents before it in its file.
    pub document: u64,
}

/// Something that was found.
#[derive(Debug)]
pub struct Item {
    /// Index of the input that it is from.
    pub input: usize,
    /// Where to read on after it.
    pub next: Position,
    /// Where it is from: a path, `PATH:LINE`, or a given name.
    pub source: String,
    /// A document or what stood in its way.
    pub content: Content,
    /// How much of the files was read, in bytes of the disk.
    pub passed_bytes: u64,
}

/// What was found.
#[derive(Debug)]
pub enum Content {
    /// A document that was not decoded yet.
    Raw(RawDocument),
    /// Nothing to decode.
    Removed {
        /// Why.
        reason: Reason,
        /// How long it was, as far as that is known.
        bytes: u64,
    },
}

/// The bytes of a document.
#[derive(Debug)]
pub struct RawDocument {
    pub bytes: Vec<u8>,
    pub form: Form,
    /// The file.
    pub path: Arc<Path>,
    /// Line with which the document begins, from 1; for a row of a table its number.
    pub line: u64,
    /// What kind the file is; None for records, about which a name says nothing.
    pub kind: Option<FileKind>,
}

/// What the bytes of a document are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The text.
    Text,
    /// A record of which the text is a part.
    JsonLine,
}

/// Reads the items of some files.
pub struct Reader<'i> {
    files: Files<'i>,
    options: &'i ReadOptions,
    /// What is open at present.
    open: Option<OpenFile>,
    next: Position,
    passed_bytes: u64,
    /// Set when reading cannot go on.
    failed: bool,
}

struct OpenFile {
    input: usize,
    pieces: Pieces,
    path: Arc<Path>,
    shown: String,
    kind: Option<FileKind>,
    length: u64,
    read_bytes: u64,
    documents: u64,
}

/// The documents of an open file.
enum Pieces {
    /// What is known already, such as why the file is not read.
    Known(VecDeque<Content>),
    Parts(Parts<Box<dyn Read + Send>>),
    Lines(Lines<Box<dyn Read + Send>>),
    Rows {
        rows: Box<Rows>,
        row: u64,
    },
    /// A file that its decoder refuses, and why.
    Broken(String),
}

impl<'i> Reader<'i> {
    /// Reads `files` from `start` on.
    pub fn new(files: Files<'i>, options: &'i ReadOptions, start: Position) -> Result<Self, DataError> {
        let mut reader =
            Self { files, options, open: None, next: Position::default(), passed_bytes: 0, failed: false };
        while reader.next.file < start.file {
            match reader.files.next() {
                Some(entry) => reader.passed_bytes += entry_bytes(&entry?.1),
                None => return Ok(reader),
            }
            reader.next.file += 1;
        }
        while reader.next.document < start.document {
            match reader.next() {
                Some(item) => drop(item?),
                None => break,
            }
        }
        Ok(reader)
    }

    fn open_entry(&self, input: usize, entry: Entry<'_>) -> OpenFile {
        let length = entry_bytes(&entry);
        let path: Arc<Path> = match &entry {
            Entry::Walked(Step::File(file)) => file.path.as_path().into(),
            Entry::Walked(Step::Special(path) | Step::Unreadable(path, _)) => path.as_path().into(),
            Entry::Stdin(_) => Path::new("-").into(),
            Entry::Text { source, .. } => Path::new(source).into(),
        };
        let mut open = OpenFile {
            input,
            pieces: Pieces::Known(VecDeque::new()),
            shown: path.display().to_string(),
            path,
            kind: None,
            length,
            read_bytes: 0,
            documents: 0,
        };
        let opened = match entry {
            Entry::Walked(Step::File(file)) => self.open_file(&file),
            Entry::Walked(Step::Special(_)) => Err(Refusal::Reason(Reason::NotAFile)),
            Entry::Walked(Step::Unreadable(_, error)) => Err(Refusal::Io(error)),
            Entry::Stdin(spool) => self.open_spool(&spool),
            Entry::Text { text, .. } => {
                let kind = FileKind::of(&open.path, text);
                let bytes = Box::new(io::Cursor::new(text.as_bytes().to_vec()));
                Ok((Pieces::Parts(Parts::new(bytes, self.options.max_document_bytes)), Some(kind)))
            }
        };
        match opened {
            Ok((pieces, kind)) => (open.pieces, open.kind) = (pieces, kind),
            Err(refusal) => open.refuse(refusal),
        }
        open
    }

    fn open_file(&self, file: &FoundFile) -> Result<(Pieces, Option<FileKind>), Refusal> {
        let format = Format::of_name(&file.path).ok_or(Refusal::Reason(Reason::Archive))?;
        let (pieces, kind) = self.open_format(&file.path, &format)?;
        let is_wanted = |kind| self.options.kinds.is_empty() || self.options.kinds.contains(&kind);
        match kind {
            Some(kind) if !file.named && !is_wanted(kind) => Err(Refusal::Reason(Reason::OtherKind)),
            _ => Ok((pieces, kind)),
        }
    }

    fn open_spool(&self, spool: &Path) -> Result<(Pieces, Option<FileKind>), Refusal> {
        let format = Format::of_content(spool)?;
        self.open_format(spool, &format)
    }

    fn open_format(&self, path: &Path, format: &Format) -> Result<(Pieces, Option<FileKind>), Refusal> {
        let limit = self.options.max_document_bytes;
        match format.layout {
            Layout::Plain => {
                let (reader, kind) = open_plain(path, format)?;
                Ok((Pieces::Parts(Parts::new(reader, limit)), Some(kind)))
            }
            Layout::JsonLines => {
                let reader = decompressed(path, format.compression)?;
                Ok((Pieces::Lines(Lines::new(reader, limit)), None))
            }
            Layout::Parquet => {
                File::open(path)?;
                let rows = Rows::open(path, &self.options.text_field).map_err(Refusal::Damage)?;
                Ok((Pieces::Rows { rows: Box::new(rows), row: 0 }, None))
            }
        }
    }

    /// The next item of the open file; None at its end.
    fn next_of(&mut self, open: &mut OpenFile) -> Result<Option<Item>, DataError> {
        let (label, content) = match open.next_content(self.options) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(damage) if self.options.bad_input == OnBadLine::Fail => {
                let path = open.path.to_path_buf();
                return Err(DataError::BadFile { path, reason: damage });
            }
            Err(damage) => {
                open.pieces = Pieces::Known(VecDeque::new());
                (format!(": {damage}"), Content::Removed { reason: Reason::Damaged, bytes: 0 })
            }
        };
        self.next.document += 1;
        open.documents += 1;
        open.read_bytes += match &content {
            Content::Raw(raw) => raw.bytes.len() as u64,
            Content::Removed { bytes, .. } => *bytes,
        };
        Ok(Some(Item {
            input: open.input,
            next: self.next,
            source: format!("{}{label}", open.shown),
            content,
            passed_bytes: self.passed_bytes + open.read_bytes.min(open.length),
        }))
    }

    fn advance(&mut self) -> Result<Option<Item>, DataError> {
        loop {
            if let Some(mut open) = self.open.take() {
                if let Some(item) = self.next_of(&mut open)? {
                    self.open = Some(open);
                    return Ok(Some(item));
                }
                self.passed_bytes += open.length;
                self.next = Position { file: self.next.file + 1, document: 0 };
            }
            let Some(entry) = self.files.next() else { return Ok(None) };
            let (input, entry) = entry?;
            self.open = Some(self.open_entry(input, entry));
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Item, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance();
        self.failed = item.is_err();
        item.transpose()
    }
}

impl OpenFile {
    fn refuse(&mut self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::Reason(reason) => reason,
            Refusal::Io(error) => {
                self.shown += &format!(": {error}");
                Reason::Unreadable
            }
            Refusal::Damage(damage) => {
                self.pieces = Pieces::Broken(damage);
                return;
            }
        };
        let content = Content::Removed { reason, bytes: self.length };
        self.pieces = Pieces::Known(VecDeque::from([content]));
    }

    /// The next document with what distinguishes it within its file, or what is wrong with the file.
    fn next_content(&mut self, options: &ReadOptions) -> Result<Option<(String, Content)>, String> {
        let is_first = self.documents == 0;
        let (piece, form) = match &mut self.pieces {
            Pieces::Known(known) => return Ok(known.pop_front().map(|content| (String::new(), content))),
            Pieces::Broken(damage) => return Err(std::mem::take(damage)),
            Pieces::Parts(parts) => (parts.next_piece().map_err(|error| error.to_string())?, Form::Text),
            Pieces::Lines(lines) => (lines.next_piece().map_err(|error| error.to_string())?, Form::JsonLine),
            Pieces::Rows { rows, row } => {
                let Some(text) = rows.next_row()? else { return Ok(None) };
                *row += 1;
                let bytes = text.unwrap_or_default();
                (Some(Piece::Bytes { line: *row, bytes }), Form::Text)
            }
        };
        let is_plain = matches!(self.pieces, Pieces::Parts(_));
        let Some(piece) = piece else {
            let empty = Content::Removed { reason: Reason::Empty, bytes: 0 };
            return Ok((is_plain && is_first).then_some((String::new(), empty)));
        };
        let (line, content) = match piece {
            Piece::TooLong { line, bytes } => (line, Content::Removed { reason: Reason::LongLine, bytes }),
            Piece::Bytes { line, bytes } if bytes.len() > options.max_document_bytes => {
                (line, Content::Removed { reason: Reason::TooLarge, bytes: bytes.len() as u64 })
            }
            Piece::Bytes { line, bytes } => {
                let path = Arc::clone(&self.path);
                (line, Content::Raw(RawDocument { bytes, form, path, line, kind: self.kind }))
            }
        };
        if form == Form::JsonLine
            && options.bad_input == OnBadLine::Fail
            && matches!(content, Content::Removed { .. })
        {
            let limit = options.max_document_bytes;
            return Err(format!("line {line} is longer than {limit} bytes"));
        }
        let is_whole = is_plain && is_first && matches!(content, Content::Raw(_));
        Ok(Some((if is_whole { String::new() } else { format!(":{line}") }, content)))
    }
}

/// Why a file is not read.
enum Refusal {
    Reason(Reason),
    Io(io::Error),
    Damage(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What a decoder says of bytes, as against what the system says of files.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                Self::Damage(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

/// Enough to tell a binary file and to read the first line of a script.
const HEAD_BYTES: usize = 8 << 10;

/// A text file as UTF-8, and its kind by its first bytes.
fn open_plain(path: &Path, format: &Format) -> Result<(Box<dyn Read + Send>, FileKind), Refusal> {
    let mut reader = decompressed(path, format.compression)?;
    let mut head = vec![0; HEAD_BYTES];
    let length = match read_up_to(&mut reader, &mut head) {
        Err(error) if format.compression == Compression::None => return Err(Refusal::Io(error)),
        Err(error) => return Err(Refusal::Damage(error.to_string())),
        Ok(length) => length,
    };
    head.truncate(length);
    let order = Utf16::of_mark(&head);
    if order.is_none() && head.contains(&0) {
        return Err(Refusal::Reason(Reason::Binary));
    }
    let whole = io::Cursor::new(head.clone()).chain(reader);
    let Some(order) = order else {
        return Ok((Box::new(whole), FileKind::of(&format.inner, &String::from_utf8_lossy(&head))));
    };
    let mut start = Vec::new();
    let _ = Utf16Reader::new(head.as_slice(), order).read_to_end(&mut start);
    let kind = FileKind::of(&format.inner, String::from_utf8_lossy(&start).trim_start_matches('\u{FEFF}'));
    Ok((Box::new(Utf16Reader::new(whole, order)), kind))
}

fn entry_bytes(entry: &Entry<'_>) -> u64 {
    match entry {
        Entry::Walked(Step::File(file)) => file.metadata.len(),
        Entry::Walked(_) => 0,
        Entry::Stdin(path) => path.metadata().map_or(0, |metadata| metadata.len()),
        Entry::Text { text, .. } => text.len() as u64,
    }
}
