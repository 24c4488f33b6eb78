//! Beam search with a model: each beam has a cache, which is copied where a sequence goes on in several ways.

use smelt_backend::Kernels;
use smelt_model::{CacheOptions, Decoder, ModelConfig};

use super::{BeamOptions, BeamRow, BeamSequence, beam_search};
use crate::decoding::{PREFILL_POSITIONS, Sequence, last_logits};
use crate::error::GenerateError;
use crate::generate::checked_context;

/// The likeliest continuations of `prompt` that [`beam_search`] finds, the best first, up to the context of the
/// model. `is_wanted` is asked before each step.
///
/// # Errors
/// [`GenerateError::Unwanted`] if it says no;
/// [`GenerateError::EmptyPrompt`], [`GenerateError::PromptTooLong`], [`GenerateError::Prompt`], and those of
/// [`beam_search`].
pub fn generate_beams<B: Kernels>(
    model: &Decoder<B>,
    config: &ModelConfig,
    prompt: &[u32],
    options: &BeamOptions,
    device: &B::Device,
    is_wanted: impl Fn() -> bool,
) -> Result<Vec<BeamSequence>, GenerateError> {
    let room = checked_context(config, prompt)? - prompt.len();
    let options = BeamOptions { max_tokens: options.max_tokens.min(room), ..options.clone() };
    let capacity = prompt.len() + options.max_tokens;
    let cache = CacheOptions { max_pass: PREFILL_POSITIONS, ..CacheOptions::new(capacity) };
    let mut sequences = vec![Sequence::new(model, prompt.to_vec(), cache, device)];
    beam_search(prompt, &options, |rows| {
        if !is_wanted() {
            return Err(GenerateError::Unwanted);
        }
        sequences = continued(std::mem::take(&mut sequences), rows);
        Ok(last_logits(model, &mut sequences.iter_mut().collect::<Vec<_>>(), device))
    })
}

/// A sequence for each row, from the one that it continues.
fn continued<B: Kernels>(sequences: Vec<Sequence<B>>, rows: &[BeamRow<'_>]) -> Vec<Sequence<B>> {
    let mut parents: Vec<Option<Sequence<B>>> = sequences.into_iter().map(Some).collect();
    let sequence = |(at, row): (usize, &BeamRow<'_>)| {
        // The last to continue a sequence needs no copy of its cache.
        let again = rows[at + 1..].iter().any(|later| later.parent == row.parent);
        let parent = &mut parents[row.parent];
        let mut sequence = if again { parent.clone() } else { parent.take() }?;
        sequence.follow(row.tokens);
        Some(sequence)
    };
    rows.iter().enumerate().filter_map(sequence).collect()
}
