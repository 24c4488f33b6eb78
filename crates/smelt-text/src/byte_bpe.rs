//! Training of byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909; on bytes as in GPT-2).
//!
//! The result is GPT-2's pipeline (its split pattern, no normalizer, no prefix space) with a vocabulary
//! learned from the texts. All 256 bytes are entries, so every text survives the round trip. Chooses no
//! texts: sampling a large corpus is the caller's part.

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

use crate::{TextError, Tokenizer};

/// The token that ends every document, as GPT-2 spells it.
pub const END_OF_TEXT: &str = "<|endoftext|>";

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
        Self { vocab_size: 32_000, min_frequency: 2, special_tokens: vec![END_OF_TEXT.to_owned()] }
    }
}

/// Learns a tokenizer from `texts`; the same texts give the same `tokenizer.json`, byte for byte.
///
/// Uses all cores. Memory grows with the number of different words and the length of the longest text.
///
/// # Errors
/// [`TextError::VocabTooSmall`] if `vocab_size` cannot hold the bytes and the special tokens.
pub fn train_byte_level_bpe<S>(
    texts: impl Iterator<Item = S> + Send,
    training: &BpeTraining,
) -> Result<Tokenizer, TextError>
where
    S: AsRef<str> + Send,
{
    let minimum = 256 + training.special_tokens.len();
    if training.vocab_size < minimum {
        return Err(TextError::VocabTooSmall { requested: training.vocab_size, minimum });
    }
    let special_tokens = training.special_tokens.iter().map(|token| AddedToken::from(token, true)).collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(training.vocab_size)
        .min_frequency(training.min_frequency)
        .special_tokens(special_tokens)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        // The crate's progress bar prints to stdout.
        .show_progress(false)
        .build();

    let mut pipeline = Pipeline::new(BPE::default());
    pipeline
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_post_processor(Some(ByteLevel::new(true, false, true)))
        .with_decoder(Some(ByteLevel::new(true, true, true)));
    pipeline
        .train(&mut TrainerWrapper::from(trainer), texts)
        .map_err(|source| TextError::Train { source })?;
    Tokenizer::from_pipeline(pipeline)
}
