//! The end of a preparation: shards out of segments, and `meta.json` that ties them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use smelt_text::{AtomicFile, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer};

use super::meta::{FilterMeta, SourceMeta};
use super::prepare::PrepareOptions;
use super::segment::{PartRecord, Segment};
use super::shard::ShardWriter;
use super::split::Split;
use super::tally::Tally;
use super::work::WorkFolder;
use super::{META_FILE, META_VERSION, Meta, TokenDtype};
use crate::{DataError, Input};

/// Writes the files of the prepared folder out of the segments in `work`.
///
/// Everything is on the disk before anything changes its name, and `meta.json`, which vouches for the
/// rest, comes last: a run cut short here is noticed by the hashes.
pub fn assemble(
    work: &WorkFolder,
    output: &Path,
    tokenizer: &Tokenizer,
    inputs: &[Input],
    tally: &Tally,
    options: &PrepareOptions,
) -> Result<(), DataError> {
    let dtype = TokenDtype::for_vocab_size(tokenizer.vocab_size());
    let mut train = ShardWriter::create(output, "train", dtype)?;
    let mut val = ShardWriter::create(output, "val", dtype)?;
    for (segment, _) in work.finished()? {
        let parts = segment.tokens_record()?.expect("every segment was encoded");
        append(&mut train, &segment, "train", parts.train)?;
        append(&mut val, &segment, "val", parts.val)?;
    }
    let split = Split::decide(&tally.split, options.val_fraction);
    let meta = Meta {
        version: META_VERSION,
        smelt_version: env!("CARGO_PKG_VERSION").to_owned(),
        vocab_size: tokenizer.vocab_size(),
        dtype,
        tokenizer_sha256: tokenizer.sha256(),
        end_of_text: tokenizer.end_of_text(),
        val_fraction: options.val_fraction,
        seed: options.seed,
        split: split.rule,
        seq_length: options.seq_length,
        train: train.sync()?,
        val: val.sync()?,
        sources: sources(inputs, tally),
        filters: filters(options),
        read_documents: tally.read_documents,
        read_bytes: tally.read_bytes,
        removed: tally
            .removed
            .iter()
            .map(|(reason, removal)| (reason, removal.documents))
            .collect::<BTreeMap<_, _>>(),
        scrubbed: tally.scrubbed,
    };
    check_length(&meta, output, options)?;
    let tokenizer_file = stage(&output.join(TOKENIZER_FILE), tokenizer.json())?;
    let meta_file = stage(&output.join(META_FILE), &meta.to_json())?;
    save_config(output, tokenizer, options)?;
    commit(tokenizer_file)?;
    train.commit()?;
    val.commit()?;
    commit(meta_file)
}

fn append(shard: &mut ShardWriter, segment: &Segment, name: &str, part: PartRecord) -> Result<(), DataError> {
    let open = |path: PathBuf| match File::open(&path) {
        Ok(file) => Ok((BufReader::with_capacity(1 << 20, file), path)),
        Err(error) => Err(DataError::io("read", &path)(error)),
    };
    let (mut tokens, path) = open(segment.tokens(name))?;
    shard.append_tokens(&mut tokens, &path)?;
    let (mut lengths, path) = open(segment.lengths(name))?;
    for _ in 0..part.documents {
        let mut length = [0; 8];
        lengths.read_exact(&mut length).map_err(DataError::io("read", &path))?;
        shard.append_document(u64::from_le_bytes(length))?;
    }
    shard.add_text_bytes(part.text_bytes);
    Ok(())
}

fn sources(inputs: &[Input], tally: &Tally) -> Vec<SourceMeta> {
    // Texts in memory are one source together: each is a document.
    let mut sources: Vec<SourceMeta> = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let name =
            if matches!(input, Input::Text { .. }) { "built-in".to_owned() } else { input.to_string() };
        let counts = tally.inputs.get(index).copied().unwrap_or_default();
        match sources.last_mut() {
            Some(last) if last.input == name => {
                last.documents += counts.documents;
                last.text_bytes += counts.text_bytes;
            }
            _ => sources.push(SourceMeta {
                input: name,
                documents: counts.documents,
                text_bytes: counts.text_bytes,
            }),
        }
    }
    sources
}

fn filters(options: &PrepareOptions) -> FilterMeta {
    FilterMeta {
        recipe: options.recipe,
        kinds: options.read.kinds.clone(),
        sizes: options.sizes,
        dedup: options.dedup,
        scrub_secrets: options.scrub_secrets,
        text_field: options.read.text_field.clone(),
        invalid_utf8: options.read.invalid_utf8,
        max_document_bytes: options.read.max_document_bytes,
    }
}

fn check_length(meta: &Meta, output: &Path, options: &PrepareOptions) -> Result<(), DataError> {
    let Some(seq_length) = options.seq_length else { return Ok(()) };
    let (found, needed) = (meta.train.tokens as usize, seq_length.saturating_add(1));
    if found < needed {
        let path = output.join(super::TRAIN_FILE);
        return Err(DataError::TooFewTokens { path, found, needed, seq_length });
    }
    Ok(())
}

/// A given tokenizer brings its `tokenizer_config.json` along, chat template and all.
fn save_config(output: &Path, tokenizer: &Tokenizer, options: &PrepareOptions) -> Result<(), DataError> {
    let target = output.join(TOKENIZER_CONFIG_FILE);
    let given = options.tokenizer.as_deref().and_then(|path| {
        let folder = if path.is_dir() { path } else { path.parent()? };
        Some(folder.join(TOKENIZER_CONFIG_FILE)).filter(|file| file.is_file() && *file != target)
    });
    match given {
        Some(path) => {
            let config = fs::read(&path).map_err(DataError::io("read", &path))?;
            commit(stage(&target, &config)?)
        }
        None => Ok(tokenizer.save_config(output)?),
    }
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
