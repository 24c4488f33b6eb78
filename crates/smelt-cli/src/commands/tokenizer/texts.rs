//! Text to learn a tokenizer from, a piece at a time, whatever the size of the files.
//!
//! Unlike `smelt data prepare` it judges nothing: no filter, no search for duplicates. What is not text
//! is left out and counted; in a `.jsonl` every line must hold a `text`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::CliError;

/// Text handed out at a time, at least.
const PIECE_BYTES: usize = 1 << 20;

/// A piece without any place to cut is cut anywhere.
const LONGEST_PIECE_BYTES: usize = 16 << 20;

/// A line of a `.jsonl` is held whole; longer ones are an error.
const LONGEST_LINE_BYTES: u64 = 1 << 30;

/// The texts of some files and folders, in the order of names. An error ends it; see [`Texts::finish`].
pub struct Texts {
    /// Files to come, the next at the end.
    files: Vec<PathBuf>,
    current: Option<Source>,
    total_bytes: u64,
    read: TextsRead,
    error: Option<CliError>,
}

/// How much was read.
#[derive(Debug, Default, Clone, Copy)]
pub struct TextsRead {
    /// Bytes of text.
    pub bytes: u64,
    /// Files left out.
    pub skipped_files: usize,
}

struct Source {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    /// Lines so far of a `.jsonl`; none for plain text.
    lines: Option<usize>,
    /// Read, not handed out.
    rest: Vec<u8>,
}

impl Texts {
    /// Lists the files of `inputs`.
    pub fn open(inputs: &[PathBuf]) -> Result<Self, CliError> {
        let mut files = Vec::new();
        for input in inputs {
            if input == Path::new("-") {
                files.push(input.clone());
            } else {
                list(input, &mut files)?;
            }
        }
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let total_bytes = files.iter().map(size).sum();
        files.reverse();
        Ok(Self { files, current: None, total_bytes, read: TextsRead::default(), error: None })
    }

    /// Size of the files together.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How much was read, or what stopped it.
    pub fn finish(self) -> Result<TextsRead, CliError> {
        match self.error {
            Some(error) => Err(error),
            None if self.read.bytes == 0 => Err(CliError::Usage {
                message: "there is no text in the input".to_owned(),
                hint: "`--input` takes text files, `.jsonl` with a `text` per line, and folders of them"
                    .to_owned(),
            }),
            None => Ok(self.read),
        }
    }

    fn next_text(&mut self) -> Result<Option<String>, CliError> {
        loop {
            if let Some(source) = &mut self.current {
                let text = match source.lines {
                    Some(_) => source.next_record()?,
                    None => source.next_piece()?,
                };
                if text.is_some() {
                    return Ok(text);
                }
                self.current = None;
            }
            let Some(path) = self.files.pop() else { return Ok(None) };
            match Source::open(&path)? {
                Some(source) => self.current = Some(source),
                None => self.read.skipped_files += 1,
            }
        }
    }
}

impl Iterator for Texts {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.error.is_some() {
            return None;
        }
        match self.next_text() {
            Ok(text) => {
                self.read.bytes += text.as_ref().map_or(0, String::len) as u64;
                text
            }
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

impl Source {
    /// Opens a file; none if it is not text.
    fn open(path: &Path) -> Result<Option<Self>, CliError> {
        let reader: Box<dyn Read> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(reading(path))?)
        };
        let mut reader = Box::new(BufReader::with_capacity(1 << 16, reader));
        let is_binary = reader.fill_buf().map_err(reading(path))?.contains(&0);
        let lines = path.extension().is_some_and(|extension| extension == "jsonl").then_some(0);
        Ok((!is_binary).then(|| Self { path: path.to_owned(), reader, lines, rest: Vec::new() }))
    }

    /// About [`PIECE_BYTES`], cut behind a visible character and in front of a blank, where the tokens of
    /// a text part too. Invalid UTF-8 is replaced.
    fn next_piece(&mut self) -> Result<Option<String>, CliError> {
        loop {
            let wanted = PIECE_BYTES as u64;
            let read =
                (&mut self.reader).take(wanted).read_to_end(&mut self.rest).map_err(reading(&self.path))?;
            let cut = match read {
                0 => self.rest.len(),
                _ if self.rest.len() >= LONGEST_PIECE_BYTES => self.rest.len(),
                _ => last_cut(&self.rest),
            };
            if cut > 0 || read == 0 {
                let after = self.rest.split_off(cut);
                let piece = std::mem::replace(&mut self.rest, after);
                return Ok((!piece.is_empty()).then(|| String::from_utf8_lossy(&piece).into_owned()));
            }
        }
    }

    fn next_record(&mut self) -> Result<Option<String>, CliError> {
        loop {
            self.rest.clear();
            let mut line = (&mut self.reader).take(LONGEST_LINE_BYTES);
            if line.read_until(b'\n', &mut self.rest).map_err(reading(&self.path))? == 0 {
                return Ok(None);
            }
            let number = self.lines.map_or(1, |lines| lines + 1);
            self.lines = Some(number);
            if self.rest.trim_ascii().is_empty() {
                continue;
            }
            let record: Option<Value> = serde_json::from_slice(&self.rest).ok();
            return match record.as_ref().and_then(|record| record.get("text")?.as_str()) {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(CliError::Usage {
                    message: format!("`{}`, line {number}: expected an object with a `text`", self.path.display()),
                    hint: "mend the line, or prepare the data with `smelt data prepare`, which can skip bad lines"
                        .to_owned(),
                }),
            };
        }
    }
}

/// The last place in front of a blank behind a visible character; 0 for none.
fn last_cut(text: &[u8]) -> usize {
    let cuts = |pair: &[u8]| pair[0].is_ascii_graphic() && matches!(pair[1], b' ' | b'\n');
    text.windows(2).rposition(cuts).map_or(0, |at| at + 1)
}

/// The files under `path` in the order of names, hidden folders left out.
fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    if !fs::metadata(path).map_err(reading(path))?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries = fs::read_dir(path)
        .and_then(|entries| entries.collect::<io::Result<Vec<_>>>())
        .map_err(reading(path))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // Links are not followed: they lead to what is listed anyway, or in circles.
        let kind = entry.file_type().map_err(reading(&entry.path()))?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && !hidden {
            list(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = path.to_owned();
    move |source| CliError::Io { action: "read", path, source }
}
