//! Guesses of the next tokens, which one pass of the model checks all at once (Leviathan et al. 2023,
//! arXiv:2211.17192).
//!
//! The model's own sampler draws at every position, and a guess counts if it is what was drawn. So tokens are those
//! without guesses, for every option and seed. A draft model is sampled with the same noise as the model, which makes
//! the two agree as often as their distributions are alike.

use smelt_backend::{Kernels, scoped};

use super::LoadedModel;
use super::running::Running;
use crate::decoding::{Sequence, last_logits};

/// Tokens of the longest end of a text that is looked for in it.
const LONGEST_MATCH: usize = 4;

/// Where guesses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DraftSource {
    /// What followed the last tokens where they occurred before (Saxena 2023, prompt lookup decoding).
    PromptLookup,
    /// A smaller model with the same vocabulary, which the loader brings.
    Model,
}

/// How far ahead is guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Most tokens of a guess.
    pub tokens: usize,
    /// Where they come from.
    pub source: DraftSource,
}

/// Up to `count` tokens that followed the last place where `tokens` went on as they end, the longest match first.
pub(super) fn lookup(tokens: &[u32], count: usize) -> &[u32] {
    for length in (1..=LONGEST_MATCH.min(tokens.len().saturating_sub(1))).rev() {
        let end = &tokens[tokens.len() - length..];
        let earlier = &tokens[..tokens.len() - 1];
        if let Some(at) = earlier.windows(length).rposition(|window| window == end) {
            let follows = &tokens[at + length..];
            return &follows[..count.min(follows.len())];
        }
    }
    &[]
}

/// Appends guesses of the draft model to each of `requests`, at most as many as it has room for.
///
/// It reads up to `limit` tokens of each in one pass, so that nobody waits for all of a long prompt; there are no guesses
/// before it has.
pub(super) fn by_model<B: Kernels>(
    LoadedModel { decoder, draft }: &LoadedModel<B>,
    requests: &mut [&mut Running<B>],
    tokens: usize,
    limit: usize,
    device: &B::Device,
) {
    let Some(draft) = draft else { return };
    for request in &mut *requests {
        if let Some(sequence) = &mut request.draft {
            sequence.follow(request.sequence.tokens());
        }
    }
    let fits = |request: &Running<B>| request.sequence.tokens().len() < draft.config().context_length();
    let is_behind = |sequence: &Sequence<B>| sequence.unseen() > limit;
    let fitting = requests.iter_mut().filter(|request| fits(request));
    let behind = fitting.filter_map(|request| request.draft.as_mut()).filter(|sequence| is_behind(sequence));
    let mut pieces: Vec<_> = behind.map(|sequence| sequence.next_pass(draft, limit)).collect();
    if !pieces.is_empty() {
        scoped(|| draft.extend(&mut pieces, device));
    }
    for step in 0..tokens {
        let goes_on = |request: &Running<B>| {
            fits(request)
                && step < request.room_for_drafts(decoder)
                && !request.draft.as_ref().is_none_or(is_behind)
        };
        let mut going: Vec<&mut &mut Running<B>> =
            requests.iter_mut().filter(|request| goes_on(request)).collect();
        let mut sequences: Vec<_> = going.iter_mut().filter_map(|request| request.draft.as_mut()).collect();
        if sequences.is_empty() {
            return;
        }
        let logits = last_logits(draft, &mut sequences, device);
        let vocab_size = logits.len() / sequences.len();
        for (request, logits) in going.into_iter().zip(logits.chunks_exact(vocab_size)) {
            // A draft model that computes no number has no guess.
            let Some(token) = request.answer.guess(logits, request.sequence.tokens()) else { return };
            request.guess(&[token]);
        }
    }
}
