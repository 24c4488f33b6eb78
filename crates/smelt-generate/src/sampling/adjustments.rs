//! Changes to single logits, before the filters: biases, penalties, forbidden repetitions.

use super::history::History;
use super::{SamplingOptions, TokenMask};
use crate::error::GenerateError;

/// Adds the biases of `options`.
///
/// # Errors
/// [`GenerateError::BadOption`] for an id beyond the vocabulary.
pub(super) fn add_biases(logits: &mut [f32], options: &SamplingOptions) -> Result<(), GenerateError> {
    options.check_vocabulary(logits.len())?;
    for (id, bias) in &options.logit_bias {
        logits[*id as usize] += *bias as f32;
    }
    Ok(())
}

/// Makes what came before less likely. Tokens beyond the vocabulary are passed over.
pub(super) fn penalise(logits: &mut [f32], history: &History, options: &SamplingOptions) {
    // Extremes must make no logit NaN or infinite.
    let repetition = (options.repetition_penalty.unwrap_or(1.0) as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    let presence = options.presence_penalty.unwrap_or(0.0) as f32;
    let frequency = options.frequency_penalty.unwrap_or(0.0) as f32;
    for (id, count) in history.counts() {
        let Some(logit) = logits.get_mut(id as usize) else { continue };
        let changed = if *logit < 0.0 { *logit * repetition } else { *logit / repetition };
        *logit = if logit.is_finite() { changed.clamp(f32::MIN, f32::MAX) } else { *logit };
        if count.generated > 0 {
            *logit -= presence + frequency * count.generated as f32;
        }
    }
}

/// Forbids the tokens that would end a sequence of `size` tokens which came before (Paulus et al. 2017,
/// arXiv:1705.04304).
pub(super) fn forbid_repeated_ngrams(logits: &mut [f32], tokens: &[u32], size: usize) {
    if tokens.len() < size {
        return;
    }
    let (_, suffix) = tokens.split_at(tokens.len() + 1 - size);
    for ngram in tokens.windows(size) {
        let (last, start) = (ngram[size - 1], &ngram[..size - 1]);
        if start == suffix
            && let Some(logit) = logits.get_mut(last as usize)
        {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Forbids everything that `allowed` does not have.
pub(super) fn forbid_others(logits: &mut [f32], allowed: &TokenMask) {
    let words = allowed.words().iter().copied().chain(std::iter::repeat(0));
    for (chunk, word) in logits.chunks_mut(TokenMask::WORD_BITS).zip(words) {
        match word {
            0 => chunk.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            _ => {
                for (bit, logit) in chunk.iter_mut().enumerate() {
                    *logit = if word >> bit & 1 == 1 { *logit } else { f32::NEG_INFINITY };
                }
            }
        }
    }
}
