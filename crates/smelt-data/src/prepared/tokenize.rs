//! The second half of a preparation: a tokenizer, and the tokens of every segment.

use std::path::Path;
use std::sync::Mutex;

use smelt_text::{BpeTraining, Tokenizer, byte_level_pieces, train_byte_level_bpe};

use super::prepare::{Observer, PrepareOptions};
use super::segment::{KeptText, PartWriter, Segment, TextReader, TokensRecord};
use super::split::{Split, content_rank};
use super::stages::in_stages;
use super::tally::Tally;
use super::work::WorkFolder;
use super::{PrepareProgress, TokenDtype};
use crate::DataError;

/// A tokenizer is trained on at most about this much text, taken evenly from the whole corpus.
const TOKENIZER_TRAINING_BYTES: u64 = 256 << 20;

/// Text encoded at a time, on all cores.
const GROUP_BYTES: usize = 8 << 20;

/// The tokenizer in the file or folder at `path`.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer, DataError> {
    Ok(if path.is_dir() { Tokenizer::from_folder(path) } else { Tokenizer::from_file(path) }?)
}

/// Learns a tokenizer from the texts in `work`, or takes the one that an interrupted run learned.
pub fn learn_tokenizer(
    work: &WorkFolder,
    tally: &Tally,
    vocab_size: usize,
    observer: &mut Observer<'_>,
) -> Result<Tokenizer, DataError> {
    if work.tokenizer().is_file() {
        return Ok(Tokenizer::from_file(&work.tokenizer())?);
    }
    let every = tally.kept_bytes.div_ceil(TOKENIZER_TRAINING_BYTES).max(1);
    observer.tell(PrepareProgress::TrainingTokenizer { text_bytes: tally.kept_bytes / every })?;
    let segments: Vec<Segment> = work.finished()?.into_iter().map(|(segment, _)| segment).collect();
    // The trainer takes texts, not results: it stops at the first failure, which is looked at after it.
    let failure = Mutex::new(None);
    let texts = segments.iter().flat_map(|segment| match segment.open_texts() {
        Ok(texts) => Texts::Open(texts),
        Err(error) => Texts::Failed(Some(error)),
    });
    let readable = texts.map_while(|text| {
        text.map_err(|error| failure.lock().map(|mut slot| slot.replace(error)).is_ok()).ok()
    });
    let pieces = readable
        .flat_map(|kept: KeptText| byte_level_pieces(&kept.text).map(str::to_owned).collect::<Vec<String>>());
    let training = BpeTraining { vocab_size, ..BpeTraining::default() };
    let every = usize::try_from(every).unwrap_or(usize::MAX);
    let tokenizer = train_byte_level_bpe(pieces.step_by(every), &training)?;
    if let Ok(Some(error)) = failure.into_inner() {
        return Err(error);
    }
    tokenizer.save(&work.tokenizer())?;
    Ok(tokenizer)
}

/// The texts of a segment, or why there are none.
enum Texts {
    Open(TextReader),
    Failed(Option<DataError>),
}

impl Iterator for Texts {
    type Item = Result<KeptText, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Open(texts) => texts.next(),
            Self::Failed(error) => error.take().map(Err),
        }
    }
}

/// Encodes those segments of `work` that are not encoded yet; says how much text that was, in bytes.
pub fn encode_segments(
    work: &WorkFolder,
    tokenizer: &Tokenizer,
    tally: &Tally,
    options: &PrepareOptions,
    observer: &mut Observer<'_>,
) -> Result<u64, DataError> {
    let mut encoding = Encoding {
        tokenizer: tokenizer.with_special_tokens_as_text(),
        end_of_text: tokenizer.end_of_text(),
        dtype: TokenDtype::for_vocab_size(tokenizer.vocab_size()),
        split: Split::decide(&tally.split, options.val_fraction),
        seed: options.seed,
        done_bytes: 0,
        total_bytes: tally.kept_bytes,
        tokens: 0,
    };
    let mut encoded_bytes = 0;
    for (segment, record) in work.finished()? {
        if let Some(done) = segment.tokens_record()? {
            encoding.done_bytes += record.tally.kept_bytes;
            encoding.tokens += done.train.tokens + done.val.tokens;
            continue;
        }
        encoding.encode(&segment, observer)?;
        encoded_bytes += record.tally.kept_bytes;
    }
    Ok(encoded_bytes)
}

struct Encoding {
    tokenizer: Tokenizer,
    end_of_text: Option<u32>,
    dtype: TokenDtype,
    split: Split,
    seed: u64,
    done_bytes: u64,
    total_bytes: u64,
    tokens: u64,
}

impl Encoding {
    fn encode(&mut self, segment: &Segment, observer: &mut Observer<'_>) -> Result<(), DataError> {
        let mut train = PartWriter::create(segment, "train", self.dtype)?;
        let mut val = PartWriter::create(segment, "val", self.dtype)?;
        let (tokenizer, split, seed) = (self.tokenizer.clone(), self.split, self.seed);
        let work = |group: Result<Vec<KeptText>, DataError>| encode_group(&group?, &tokenizer, &split, seed);
        in_stages(Groups { texts: segment.open_texts()? }, work, |documents| {
            for document in documents? {
                let shard = if document.is_val { &mut val } else { &mut train };
                shard.append(&document.ids, self.end_of_text, document.text_bytes)?;
                self.done_bytes += document.text_bytes as u64;
                self.tokens += document.ids.len() as u64 + u64::from(self.end_of_text.is_some());
            }
            let &mut Self { done_bytes, total_bytes, tokens, .. } = self;
            observer.tell(PrepareProgress::Encoding { done_bytes, total_bytes, tokens })
        })?;
        segment.finish_tokens(&TokensRecord { train: train.finish()?, val: val.finish()? })
    }
}

/// A document, or the part of one that belongs to a shard.
struct Encoded {
    ids: Vec<u32>,
    text_bytes: usize,
    is_val: bool,
}

fn encode_group(
    group: &[KeptText],
    tokenizer: &Tokenizer,
    split: &Split,
    seed: u64,
) -> Result<Vec<Encoded>, DataError> {
    let mut parts = Vec::new();
    for kept in group {
        let (train, val) = split.cut(content_rank(&kept.digest, seed), &kept.text);
        parts.extend([(train, false), (val, true)].into_iter().filter(|(text, _)| !text.is_empty()));
    }
    let texts: Vec<&str> = parts.iter().map(|(text, _)| *text).collect();
    let encoded = tokenizer.encode_batch(&texts)?;
    let documents = encoded.into_iter().zip(parts);
    Ok(documents.map(|(ids, (text, is_val))| Encoded { ids, text_bytes: text.len(), is_val }).collect())
}

/// Texts in groups that are worth sharing among cores.
struct Groups {
    texts: TextReader,
}

impl Iterator for Groups {
    type Item = Result<Vec<KeptText>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < GROUP_BYTES {
            match self.texts.next() {
                Some(Ok(kept)) => {
                    bytes += kept.text.len();
                    group.push(kept);
                }
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        (!group.is_empty()).then_some(Ok(group))
    }
}
