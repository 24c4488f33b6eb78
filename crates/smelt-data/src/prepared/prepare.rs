//! From documents to a prepared folder.
//!
//! The corpus is in memory already; tokens go to the disk as they are made. The same corpus and options
//! give the same files, byte for byte.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use smelt_text::{
    AtomicFile, BpeTraining, TOKENIZER_FILE, Tokenizer, byte_level_pieces, train_byte_level_bpe,
};

use super::shard::ShardWriter;
use super::split::{Split, split};
use super::{META_FILE, META_VERSION, Meta, Prepared, TRAIN_FILE, TokenDtype, VAL_FILE};
use crate::{Corpus, DataError};

/// A tokenizer is trained on at most about this much text, taken evenly from the whole corpus.
const TOKENIZER_TRAINING_BYTES: u64 = 256 << 20;

/// Text encoded between two reports of progress.
const GROUP_BYTES: usize = 2 << 20;

/// How to prepare a corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareOptions {
    /// Entries of the tokenizer to train, if `tokenizer` is not given; a small corpus may yield fewer.
    pub vocab_size: usize,
    /// A `tokenizer.json`, or a folder with one, to use instead of training.
    pub tokenizer: Option<PathBuf>,
    /// Share of the corpus to hold out for validation, from 0 to below 1.
    pub val_fraction: f64,
    /// Chooses what is held out.
    pub seed: u64,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self { vocab_size: 32_000, tokenizer: None, val_fraction: 0.05, seed: 0 }
    }
}

/// How far the preparation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrepareProgress {
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

/// Writes `tokenizer.json`, `train.bin`, `val.bin` and `meta.json` into `output`, and opens the result.
///
/// Every document is followed by the end-of-text token; special tokens that a document mentions are
/// plain text. Files that were there are replaced once all of the new ones are on the disk.
///
/// # Errors
/// If an option cannot be, the tokenizer cannot be loaded, trained, or has no end-of-text token, or
/// `output` cannot be written; what was there is then untouched.
pub fn prepare(
    corpus: &Corpus,
    output: &Path,
    options: &PrepareOptions,
    progress: &mut dyn FnMut(PrepareProgress),
) -> Result<Prepared, DataError> {
    if !(0.0..1.0).contains(&options.val_fraction) {
        return Err(DataError::InvalidOption {
            name: "val_fraction",
            value: options.val_fraction.to_string(),
            expected: "at least 0 and below 1",
        });
    }
    fs::create_dir_all(output).map_err(DataError::io("create", output))?;
    let tokenizer = match &options.tokenizer {
        Some(path) => load_tokenizer(path)?,
        None => train_tokenizer(corpus, options.vocab_size, progress)?,
    };
    let split = split(corpus, options.val_fraction, options.seed);
    write_folder(&split, output, &tokenizer, options, progress)?;
    Prepared::open(output)
}

fn load_tokenizer(path: &Path) -> Result<Tokenizer, DataError> {
    let tokenizer = if path.is_dir() { Tokenizer::from_folder(path) } else { Tokenizer::from_file(path) }?;
    match tokenizer.end_of_text() {
        Some(_) => Ok(tokenizer),
        None => Err(DataError::NoEndOfText { path: path.to_owned() }),
    }
}

fn train_tokenizer(
    corpus: &Corpus,
    vocab_size: usize,
    progress: &mut dyn FnMut(PrepareProgress),
) -> Result<Tokenizer, DataError> {
    let text_bytes = corpus.text_bytes();
    let every = usize::try_from(text_bytes.div_ceil(TOKENIZER_TRAINING_BYTES)).unwrap_or(usize::MAX).max(1);
    progress(PrepareProgress::TrainingTokenizer { text_bytes: text_bytes / every as u64 });
    let pieces = corpus.documents.iter().flat_map(|document| byte_level_pieces(&document.text));
    let training = BpeTraining { vocab_size, ..BpeTraining::default() };
    Ok(train_byte_level_bpe(pieces.step_by(every), &training)?)
}

fn write_folder(
    split: &Split<'_>,
    output: &Path,
    tokenizer: &Tokenizer,
    options: &PrepareOptions,
    progress: &mut dyn FnMut(PrepareProgress),
) -> Result<(), DataError> {
    let dtype = TokenDtype::for_vocab_size(tokenizer.vocab_size());
    let end_of_text = tokenizer.end_of_text().expect("checked when loaded, given when trained");
    let total_bytes = split.train.iter().chain(&split.val).map(|text| text.len() as u64).sum();
    let mut encoder = Encoder {
        tokenizer: tokenizer.with_special_tokens_as_text(),
        end_of_text,
        done_bytes: 0,
        total_bytes,
        tokens: 0,
        progress,
    };
    let mut train = ShardWriter::create(&output.join(TRAIN_FILE), dtype)?;
    let mut val = ShardWriter::create(&output.join(VAL_FILE), dtype)?;
    encoder.encode(&split.train, &mut train)?;
    encoder.encode(&split.val, &mut val)?;
    let meta = Meta {
        version: META_VERSION,
        vocab_size: tokenizer.vocab_size(),
        dtype,
        tokenizer_sha256: tokenizer.sha256(),
        end_of_text,
        val_fraction: options.val_fraction,
        seed: options.seed,
        split: split.rule,
        train: train.sync()?,
        val: val.sync()?,
    };
    // Everything is on the disk before anything changes its name, and `meta.json`, which vouches for the
    // rest, comes last: a run cut short here is noticed by the hashes.
    let tokenizer_file = stage(&output.join(TOKENIZER_FILE), tokenizer.json())?;
    let meta_file = stage(&output.join(META_FILE), meta_json(&meta).as_bytes())?;
    tokenizer.save_config(output)?;
    commit(tokenizer_file)?;
    train.commit()?;
    val.commit()?;
    commit(meta_file)
}

fn meta_json(meta: &Meta) -> String {
    let json = serde_json::to_string_pretty(meta).expect("numbers, names and finite fractions serialize");
    json + "\n"
}

fn stage(path: &Path, bytes: &[u8]) -> Result<AtomicFile, DataError> {
    let write = || -> io::Result<AtomicFile> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(bytes)?;
        file.sync()?;
        Ok(file)
    };
    write().map_err(DataError::io("write", path))
}

fn commit(file: AtomicFile) -> Result<(), DataError> {
    let target = file.target().to_owned();
    file.commit().map_err(DataError::io("write", &target))
}

/// Encodes documents group by group, which bounds the tokens held in memory.
struct Encoder<'p> {
    tokenizer: Tokenizer,
    end_of_text: u32,
    done_bytes: u64,
    total_bytes: u64,
    tokens: u64,
    progress: &'p mut dyn FnMut(PrepareProgress),
}

impl Encoder<'_> {
    fn encode(&mut self, texts: &[&str], shard: &mut ShardWriter) -> Result<(), DataError> {
        let mut rest = texts;
        while !rest.is_empty() {
            let (group, others) = rest.split_at(group_len(rest));
            rest = others;
            for (text, ids) in group.iter().zip(self.tokenizer.encode_batch(group)?) {
                shard.append(&ids, self.end_of_text, text.len())?;
                self.done_bytes += text.len() as u64;
                self.tokens += ids.len() as u64 + 1;
            }
            let &mut Self { done_bytes, total_bytes, tokens, .. } = self;
            (self.progress)(PrepareProgress::Encoding { done_bytes, total_bytes, tokens });
        }
        Ok(())
    }
}

/// How many of the first texts make up a group; at least one.
fn group_len(texts: &[&str]) -> usize {
    let mut bytes = 0;
    let fits = |text: &&&str| {
        bytes += text.len();
        bytes <= GROUP_BYTES
    };
    texts.iter().take_while(fits).count().max(1)
}
