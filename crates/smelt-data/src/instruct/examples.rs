//! The examples of one file, tokenized and in memory.

use std::fs::File;
use std::io::BufReader;
use std::mem::take;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use smelt_text::{ChatTemplate, Tokenizer};

use super::encode::{Encoded, Encoder, InstructionOptions, LossOn, OnBadRecord, Sequence};
use super::lines::Lines;
use super::record::{Record, RecordKind};
use super::report::InstructionReport;
use crate::DataError;
use crate::batch::{Passage, check_sizes};

/// Longest line that is read.
const MAX_LINE_BYTES: usize = 64 << 20;
/// What a line takes in memory beside its text, roughly.
const LINE_BYTES: usize = 64;
/// Text that is encoded at a time, on all cores.
const GROUP_BYTES: usize = 8 << 20;

/// Sequences of tokens with what counts in them: five bytes per token.
///
/// Of preferences there are two sequences per example, the chosen one first.
#[derive(Debug, Clone)]
pub struct Examples {
    path: PathBuf,
    kind: RecordKind,
    report: InstructionReport,
    tokens: Vec<u32>,
    counted: Vec<bool>,
    /// Where each sequence begins, and at the end the number of tokens.
    starts: Vec<usize>,
}

impl Examples {
    /// Reads the records of a `.jsonl` and tokenizes them.
    ///
    /// # Errors
    /// If the file cannot be read; [`DataError::BadLine`] at the first line that is no record of the
    /// file's kind or that the template refuses, unless these are to be left out;
    /// [`DataError::NoCompletions`] if the loss is to be on completions and the file has plain texts;
    /// [`DataError::NoExamples`] if nothing is left.
    pub fn read(
        path: &Path,
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        options: &InstructionOptions,
    ) -> Result<Self, DataError> {
        check_sizes(&[("seq_length", options.seq_length)])?;
        let encoder = Encoder::new(tokenizer, template, options)?;
        let file = File::open(path).map_err(DataError::io("read", path))?;
        let mut reading = Reading { path, options, encoder, kind: None, examples: Self::none_of(path) };
        let (mut group, mut bytes) = (Vec::new(), 0);
        for line in Lines::new(BufReader::with_capacity(1 << 16, file), MAX_LINE_BYTES) {
            let (line, text) = line.map_err(DataError::io("read", path))?;
            bytes += LINE_BYTES + text.as_ref().map_or(0, String::len);
            group.push((line, text));
            if bytes >= GROUP_BYTES {
                reading.take_group(take(&mut group))?;
                bytes = 0;
            }
        }
        reading.take_group(group)?;
        match (reading.kind, reading.examples) {
            (Some(kind), examples) if !examples.is_empty() => Ok(Self { kind, ..examples }),
            (_, examples) => {
                Err(DataError::NoExamples { path: path.to_owned(), report: Box::new(examples.report) })
            }
        }
    }

    fn none_of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            kind: RecordKind::Text,
            report: InstructionReport::default(),
            tokens: Vec::new(),
            counted: Vec::new(),
            starts: vec![0],
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its records look like.
    pub fn kind(&self) -> RecordKind {
        self.kind
    }

    /// What became of its records.
    pub fn report(&self) -> &InstructionReport {
        &self.report
    }

    /// Examples; a preference is one.
    pub fn len(&self) -> usize {
        (self.starts.len() - 1) / self.sequences_per_example()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.starts.len() == 1
    }

    /// The tokens of an example; of a preference, those with the chosen answer.
    ///
    /// # Panics
    /// If `example` is not below [`Examples::len`].
    pub fn passage(&self, example: usize) -> Passage {
        self.sequence(example * self.sequences_per_example())
    }

    /// The tokens of a preference with the rejected answer.
    ///
    /// # Panics
    /// If the records are no preferences, or `example` is not below [`Examples::len`].
    pub fn rejected(&self, example: usize) -> Passage {
        assert!(self.kind == RecordKind::Preference, "only preferences have a rejected answer");
        self.sequence(2 * example + 1)
    }

    /// Predictions that fit the example in a row; of a preference, those of its longer answer.
    pub fn predictions(&self, example: usize) -> usize {
        let each = self.sequences_per_example();
        let sequences = example * each..(example + 1) * each;
        sequences.map(|at| self.starts[at + 1] - self.starts[at] - 1).max().unwrap_or(0)
    }

    /// Predictions that count, those of rejected answers included.
    pub fn counted_tokens(&self) -> usize {
        let firsts = self.starts[..self.starts.len() - 1].iter().filter(|&&start| self.counted[start]);
        self.counted.iter().filter(|&&counts| counts).count() - firsts.count()
    }

    /// Equal exactly if the tokens and what counts in them are: a run resumes only on the same.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        let starts = self.starts.iter().flat_map(|start| (*start as u64).to_le_bytes());
        hasher.update(starts.collect::<Vec<u8>>());
        for tokens in self.tokens.chunks(1 << 16) {
            hasher.update(tokens.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
        }
        for counted in self.counted.chunks(1 << 16) {
            hasher.update(counted.iter().map(|&counts| u8::from(counts)).collect::<Vec<u8>>());
        }
        format!("{:x}", hasher.finalize())
    }

    fn sequences_per_example(&self) -> usize {
        if self.kind == RecordKind::Preference { 2 } else { 1 }
    }

    fn sequence(&self, at: usize) -> Passage {
        let range = self.starts[at]..self.starts[at + 1];
        let counted = self.counted[range.start + 1..range.end].to_vec();
        Passage { tokens: self.tokens[range].to_vec(), counted: Some(counted) }
    }

    fn push(&mut self, sequence: Sequence) {
        self.tokens.extend(sequence.tokens);
        self.counted.extend(sequence.counted);
        self.starts.push(self.tokens.len());
    }
}

/// A file being read.
struct Reading<'a> {
    path: &'a Path,
    options: &'a InstructionOptions,
    encoder: Encoder<'a>,
    /// Of the first good record.
    kind: Option<RecordKind>,
    examples: Examples,
}

impl Reading<'_> {
    /// Encodes lines on all cores and takes them in their order.
    fn take_group(&mut self, group: Vec<(usize, Result<String, String>)>) -> Result<(), DataError> {
        let mut lines = group.into_iter();
        // Until a record has told the kind, lines come one by one.
        while self.kind.is_none() {
            let Some((line, text)) = lines.next() else { return Ok(()) };
            let record = text.and_then(|text| Record::parse(&text, None));
            self.kind = record.as_ref().ok().map(Record::kind);
            if self.kind == Some(RecordKind::Text) && self.options.loss_on == LossOn::Completions {
                return Err(DataError::NoCompletions { path: self.path.to_owned() });
            }
            self.take(line, record.and_then(|record| self.encoder.encode(&record)))?;
        }
        let (kind, encoder) = (self.kind, &self.encoder);
        let encode = |text: String| encoder.encode(&Record::parse(&text, kind)?);
        let lines: Vec<(usize, Result<String, String>)> = lines.collect();
        let encoded: Vec<(usize, Result<Encoded, String>)> =
            lines.into_par_iter().map(|(line, text)| (line, text.and_then(encode))).collect();
        encoded.into_iter().try_for_each(|(line, encoded)| self.take(line, encoded))
    }

    fn take(&mut self, line: usize, encoded: Result<Encoded, String>) -> Result<(), DataError> {
        let report = &mut self.examples.report;
        match encoded {
            Ok(Encoded::Taken { sequences, removed_messages }) => {
                report.taken += 1;
                report.removed_messages += removed_messages;
                report.shortened += usize::from(removed_messages > 0);
                let is_cut = self.kind == Some(RecordKind::Text) && sequences.len() > 1;
                report.cut_texts += usize::from(is_cut);
                sequences.into_iter().for_each(|sequence| self.examples.push(sequence));
            }
            Ok(Encoded::TooLong) => report.too_long += 1,
            Ok(Encoded::NothingToLearn) => report.nothing_to_learn += 1,
            Err(reason) if self.options.bad_record == OnBadRecord::Skip => report.add_bad_line(line, reason),
            Err(reason) => {
                return Err(DataError::BadLine { path: self.path.to_owned(), line: line as u64, reason });
            }
        }
        Ok(())
    }
}
