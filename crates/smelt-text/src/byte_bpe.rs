//! Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909; on bytes as in GPT-2): training and a fast
//! encoder.
//!
//! Training gives GPT-2's pipeline (its split pattern, no normalizer, no prefix space) with a vocabulary
//! learned from the texts. All 256 bytes are entries, so every text survives the round trip. Chooses no
//! texts: sampling a large corpus is the caller's part.

mod alphabet;
mod cache;
mod encoder;
mod merges;
mod words;

use std::ops::ControlFlow;

use ahash::AHashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

pub use self::alphabet::bytes_of;
use self::alphabet::{BYTE_NAMES, spelling_of};
pub use self::encoder::ByteBpe;
use self::merges::{Words, learn};
use self::words::WordCounts;
use crate::{TextError, Tokenizer};

/// The token that ends every document, as GPT-2 spells it.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The tokens around a message of a conversation, as ChatML spells them.
pub const CHAT_TOKENS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// Text counted at a time: enough for all cores, little enough to hold.
const BATCH_BYTES: usize = 16 << 20;

/// What vocabulary to learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpeTraining {
    /// Entries wanted, bytes and special tokens among them; a small corpus may yield fewer.
    pub vocab_size: usize,
    /// A pair seen less often than this is never merged.
    pub min_frequency: u64,
    /// Tokens never split and never met in text, in id order from 0.
    pub special_tokens: Vec<String>,
}

impl Default for BpeTraining {
    fn default() -> Self {
        let special_tokens = [END_OF_TEXT].into_iter().chain(CHAT_TOKENS).map(str::to_owned).collect();
        Self { vocab_size: 32_000, min_frequency: 2, special_tokens }
    }
}

/// How far training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingProgress {
    /// Texts are counted.
    Reading {
        /// Bytes so far.
        bytes: u64,
        /// Different words so far.
        words: usize,
    },
    /// The vocabulary is built up.
    Merging {
        /// Entries so far.
        entries: usize,
        /// Entries wanted.
        vocab_size: usize,
    },
}

/// Learns a tokenizer from `texts`; the same texts in the same order give the same `tokenizer.json`,
/// byte for byte, whatever the number of threads.
///
/// Uses all cores. Memory is bounded: texts are counted in batches, and of too many different words the
/// rarest are forgotten (the order of the texts matters only then).
///
/// # Errors
/// [`TextError::VocabTooSmall`] if `vocab_size` cannot hold the bytes and the special tokens.
pub fn train_byte_level_bpe<S>(
    texts: impl Iterator<Item = S>,
    training: &BpeTraining,
) -> Result<Tokenizer, TextError>
where
    S: AsRef<str> + Send,
{
    train_byte_level_bpe_watched(texts, training, |_| ControlFlow::Continue(()))
}

/// As [`train_byte_level_bpe`], telling `watch` how far it is; `watch` can break it off.
///
/// # Errors
/// Those of [`train_byte_level_bpe`], and [`TextError::Stopped`] if broken off.
pub fn train_byte_level_bpe_watched<S>(
    texts: impl Iterator<Item = S>,
    training: &BpeTraining,
    mut watch: impl FnMut(TrainingProgress) -> ControlFlow<()>,
) -> Result<Tokenizer, TextError>
where
    S: AsRef<str> + Send,
{
    let minimum = 256 + training.special_tokens.len();
    if training.vocab_size < minimum {
        return Err(TextError::VocabTooSmall { requested: training.vocab_size, minimum });
    }
    let words = count_words(texts, &mut watch)?;
    let mut vocabulary = Vocabulary::start(&training.special_tokens);
    let words = Words::new(&words.into_sorted(), &vocabulary.byte_ids);
    let mut stopped = false;
    learn(words, training.min_frequency, |pair| {
        let (entries, vocab_size) = (vocabulary.tokens.len(), training.vocab_size);
        stopped = watch(TrainingProgress::Merging { entries, vocab_size }).is_break();
        if stopped || entries >= vocab_size {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(vocabulary.join(pair))
    });
    if stopped {
        return Err(TextError::Stopped);
    }
    vocabulary.into_tokenizer(&training.special_tokens)
}

fn count_words<S: AsRef<str> + Send>(
    texts: impl Iterator<Item = S>,
    watch: &mut impl FnMut(TrainingProgress) -> ControlFlow<()>,
) -> Result<WordCounts, TextError> {
    let mut words = WordCounts::new();
    let (mut batch, mut batch_bytes, mut bytes) = (Vec::new(), 0, 0);
    for text in texts {
        batch_bytes += text.as_ref().len();
        batch.push(text);
        if batch_bytes >= BATCH_BYTES {
            words.add(std::mem::take(&mut batch));
            bytes += std::mem::take(&mut batch_bytes) as u64;
            if watch(TrainingProgress::Reading { bytes, words: words.len() }).is_break() {
                return Err(TextError::Stopped);
            }
        }
    }
    words.add(batch);
    Ok(words)
}

/// A vocabulary that grows by merges: special tokens, bytes, joined tokens, in id order.
struct Vocabulary {
    tokens: Vec<String>,
    ids: AHashMap<String, u32>,
    byte_ids: [u32; 256],
    merges: Vec<(String, String)>,
}

impl Vocabulary {
    fn start(special_tokens: &[String]) -> Self {
        let mut vocabulary =
            Self { tokens: Vec::new(), ids: AHashMap::default(), byte_ids: [0; 256], merges: Vec::new() };
        for token in special_tokens {
            vocabulary.insert(token.clone());
        }
        let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
        bytes.sort_unstable_by_key(|&byte| BYTE_NAMES[usize::from(byte)]);
        for byte in bytes {
            vocabulary.byte_ids[usize::from(byte)] = vocabulary.insert(spelling_of(&[byte]));
        }
        vocabulary
    }

    /// The id of a token, which is added if it is not there: two ways to join may spell the same.
    fn insert(&mut self, token: String) -> u32 {
        let fresh = u32::try_from(self.tokens.len()).expect("fewer than 2^32 tokens fit into memory");
        *self.ids.entry(token).or_insert_with_key(|token| {
            self.tokens.push(token.clone());
            fresh
        })
    }

    fn join(&mut self, (left, right): merges::Pair) -> u32 {
        let (left, right) = (self.tokens[left as usize].clone(), self.tokens[right as usize].clone());
        let joined = left.clone() + &right;
        self.merges.push((left, right));
        self.insert(joined)
    }

    fn into_tokenizer(self, special_tokens: &[String]) -> Result<Tokenizer, TextError> {
        let failed = |source| TextError::Train { source };
        let model = BPE::builder().vocab_and_merges(self.ids, self.merges).build().map_err(failed)?;
        let mut pipeline = Pipeline::new(model);
        pipeline
            .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
            .with_post_processor(Some(ByteLevel::new(true, false, true)))
            .with_decoder(Some(ByteLevel::new(true, true, true)));
        let special: Vec<AddedToken> =
            special_tokens.iter().map(|token| AddedToken::from(token, true)).collect();
        pipeline.add_special_tokens(&special);
        Tokenizer::from_pipeline(pipeline)
    }
}
