//! From files to a prepared folder, of any size in bounded memory.
//!
//! Read and sift into segments of texts, learn a tokenizer, encode segment by segment, put the shards
//! together. An interrupted preparation goes on from its last finished segment. Equal inputs and options
//! give equal files, byte for byte, interrupted or not.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use smelt_text::{BpeTraining, TextError, Tokenizer};

use super::assemble::assemble;
use super::gather::{Gathered, gather};
use super::tally::Tally;
use super::tokenize::{encode_segments, learn_tokenizer, load_tokenizer};
use super::work::WorkFolder;
use super::{META_VERSION, Prepared};
use crate::corpus::{Catalogue, Files};
use crate::sift::SiftOptions;
use crate::{DataError, Dedup, Input, ReadOptions, Recipe, SizeLimits};

/// How to prepare a corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareOptions {
    /// What to read, and what to do about broken input.
    pub read: ReadOptions,
    /// Which filters to apply.
    pub recipe: Recipe,
    /// Sizes of documents to take.
    pub sizes: SizeLimits,
    /// Which copies to remove.
    pub dedup: Dedup,
    /// Replace keys, tokens and e-mail addresses.
    pub scrub_secrets: bool,
    /// Entries of the tokenizer to train, if `tokenizer` is not given; a small corpus may yield fewer.
    pub vocab_size: usize,
    /// A `tokenizer.json`, or a folder with one, to use instead of training.
    pub tokenizer: Option<PathBuf>,
    /// Share of the corpus to hold out for validation, from 0 to below 1.
    pub val_fraction: f64,
    /// Chooses what is held out.
    pub seed: u64,
    /// Tokens per sequence that the data is meant for: fewer to train on than that are refused.
    pub seq_length: Option<usize>,
    /// Text read between two points from which an interrupted preparation goes on.
    pub segment_bytes: u64,
}

impl PrepareOptions {
    /// The options of a recipe.
    pub fn of_recipe(recipe: Recipe) -> Self {
        Self {
            read: ReadOptions { kinds: recipe.kinds().to_vec(), ..ReadOptions::default() },
            recipe,
            sizes: recipe.sizes(),
            dedup: Dedup::Near,
            scrub_secrets: false,
            vocab_size: 32_000,
            tokenizer: None,
            val_fraction: 0.05,
            seed: 0,
            seq_length: None,
            segment_bytes: 64 << 20,
        }
    }

    pub(crate) fn sifting(&self) -> SiftOptions {
        SiftOptions {
            read: self.read.clone(),
            recipe: self.recipe,
            sizes: self.sizes,
            dedup: self.dedup,
            scrub_secrets: self.scrub_secrets,
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let wrong = |name, value: String, expected| Err(DataError::InvalidOption { name, value, expected });
        if !(0.0..1.0).contains(&self.val_fraction) {
            return wrong("val_fraction", self.val_fraction.to_string(), "at least 0 and below 1");
        }
        if self.read.max_document_bytes == 0 {
            return wrong("max_document_bytes", "0".to_owned(), "at least 1");
        }
        // The trainer says so too, but only after everything was read.
        let minimum = 256 + BpeTraining::default().special_tokens.len();
        if self.tokenizer.is_none() && self.vocab_size < minimum {
            return Err(TextError::VocabTooSmall { requested: self.vocab_size, minimum }.into());
        }
        Ok(())
    }

    /// Everything that decides what a segment holds. What is done about broken input does not: where it
    /// matters, the preparation ends, and may go on with another choice.
    fn plan(&self, inputs: &[Input], catalogue: &Catalogue, tokenizer: Option<&str>) -> String {
        let ReadOptions { kinds, text_field, invalid_utf8, bad_input: _, max_document_bytes } = &self.read;
        let inputs: Vec<String> = inputs.iter().map(Input::to_string).collect();
        let plan = json!({
            "smelt": env!("CARGO_PKG_VERSION"), "version": META_VERSION, "inputs": inputs,
            "files": catalogue.fingerprint, "kinds": kinds, "text_field": text_field,
            "invalid_utf8": invalid_utf8, "max_document_bytes": max_document_bytes, "recipe": self.recipe,
            "sizes": self.sizes, "dedup": self.dedup, "scrub_secrets": self.scrub_secrets,
            "vocab_size": self.vocab_size, "tokenizer": tokenizer, "val_fraction": self.val_fraction,
            "seed": self.seed, "segment_bytes": self.segment_bytes,
        });
        format!("{plan:#}\n")
    }
}

/// Those of [`Recipe::Any`].
impl Default for PrepareOptions {
    fn default() -> Self {
        Self::of_recipe(Recipe::Any)
    }
}

/// How far the preparation has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PrepareProgress<'a> {
    /// An interrupted preparation goes on.
    Resumed {
        /// What it had done.
        tally: &'a Tally,
    },
    /// Documents are being read and sifted.
    Reading {
        /// How much of the files was read, in bytes of the disk.
        passed_bytes: u64,
        /// Size of the files on the disk.
        total_bytes: u64,
        /// Documents kept so far.
        kept_documents: u64,
        /// The length of their texts in bytes.
        text_bytes: u64,
    },
    /// All documents were read.
    Sifted {
        /// What became of them.
        tally: &'a Tally,
    },
    /// A tokenizer is about to be trained on this much text.
    TrainingTokenizer {
        /// Length of the text in bytes.
        text_bytes: u64,
    },
    /// Text is being encoded.
    Encoding {
        /// Text encoded so far, in bytes.
        done_bytes: u64,
        /// Text of the corpus, in bytes.
        total_bytes: u64,
        /// Tokens written so far.
        tokens: u64,
    },
}

/// What a preparation did.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// The folder, open.
    pub prepared: Prepared,
    /// What became of the documents.
    pub tally: Tally,
    /// What was read by this process: all, unless an interrupted preparation went on.
    pub read_bytes: u64,
    /// Text that was encoded by this process, in bytes.
    pub encoded_bytes: u64,
    /// Time that this process spent on it.
    pub durations: StageDurations,
}

/// Time spent on each part of a preparation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageDurations {
    /// Reading, sifting and removing copies.
    pub gathering: Duration,
    /// Training or loading the tokenizer.
    pub tokenizer: Duration,
    /// Encoding.
    pub encoding: Duration,
    /// Putting the files together and checking them.
    pub writing: Duration,
}

/// Whom to tell about progress.
pub(super) struct Observer<'p>(pub(super) &'p mut dyn FnMut(PrepareProgress<'_>) -> ControlFlow<()>);

impl Observer<'_> {
    /// Reports progress; an error if the observer wants to stop.
    pub fn tell(&mut self, progress: PrepareProgress<'_>) -> Result<(), DataError> {
        match (self.0)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DataError::Interrupted),
        }
    }
}

/// Prepares the documents of `inputs` into `output`, and opens the result.
///
/// Writes `tokenizer.json`, both shards with their document indexes, and `meta.json`. Documents end with
/// the end-of-text token where the tokenizer has one; special tokens that a document mentions are plain
/// text. Files that were there are replaced once all of the new ones are on the disk.
///
/// # Errors
/// [`DataError`] of an option, the inputs, the tokenizer or the disk, or [`DataError::Interrupted`] if
/// `progress` breaks. What `output` held is then untouched, and the work is kept for the next call.
pub fn prepare(
    inputs: &[Input],
    output: &Path,
    options: &PrepareOptions,
    progress: &mut dyn FnMut(PrepareProgress<'_>) -> ControlFlow<()>,
) -> Result<Preparation, DataError> {
    let mut observer = Observer(progress);
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
    options.check()?;
    for input in inputs {
        input.paths()?;
    }
    let given = options.tokenizer.as_deref().map(load_tokenizer).transpose()?;
    fs::create_dir_all(output).map_err(DataError::io("create", output))?;
    let work = WorkFolder::open(output)?;
    if inputs.contains(&Input::Stdin) {
        work.spool(&mut std::io::stdin().lock())?;
    }
    let stdin = work.stdin();
    let files = || Files::new(inputs, &stdin, Some(output));
    let catalogue = Catalogue::of(files())?;
    let hash = given.as_ref().map(Tokenizer::sha256);
    work.adopt(&options.plan(inputs, &catalogue, hash.as_deref()))?;

    let Gathered { tally, read_bytes } =
        gather(files(), catalogue.total_bytes, &work, options, &mut observer)?;
    if tally.kept_documents == 0 {
        work.remove()?;
        // Only if there is nothing else in it.
        let _ = fs::remove_dir(output);
        return Err(no_documents(inputs, &tally));
    }
    observer.tell(PrepareProgress::Sifted { tally: &tally })?;
    let gathering = lap();
    let tokenizer = match given {
        Some(tokenizer) => tokenizer,
        None => learn_tokenizer(&work, &tally, options.vocab_size, &mut observer)?,
    };
    let learning = lap();
    let encoded_bytes = encode_segments(&work, &tokenizer, &tally, options, &mut observer)?;
    let encoding = lap();
    assemble(&work, output, &tokenizer, inputs, &tally, options)?;
    let prepared = Prepared::open(output)?;
    work.remove()?;
    let durations = StageDurations { gathering, tokenizer: learning, encoding, writing: lap() };
    Ok(Preparation { prepared, tally, read_bytes, encoded_bytes, durations })
}

fn no_documents(inputs: &[Input], tally: &Tally) -> DataError {
    let inputs: Vec<String> = inputs.iter().map(|input| format!("`{input}`")).collect();
    DataError::NoDocuments { inputs: inputs.join(", "), removed: tally.removed.clone() }
}
