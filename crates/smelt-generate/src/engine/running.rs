//! Requests that run: who takes part in the next pass with how many tokens.

use smelt_backend::Kernels;
use smelt_model::Decoder;

use super::LoadedModel;
use super::answer::Answer;
use super::handle::{Shared, Submitted};
use super::prefix::PrefixTree;
use super::queue::{CacheShape, Taken};
use super::request::Work;
use crate::decoding::Sequence;
use crate::error::GenerateError;

/// A request that runs.
pub(super) struct Running<B: Kernels> {
    pub model: usize,
    pub sequence: Sequence<B>,
    /// The same sequence for the draft model, where there is one.
    pub draft: Option<Sequence<B>>,
    pub answer: Answer,
    /// Positions for which there is memory.
    pub capacity: usize,
    /// Memory set aside for its keys and values.
    pub cache_bytes: u64,
    /// Tokens whose keys and values were offered to the prefixes.
    pub kept: usize,
    /// Tokens at the end of the sequence that are only guessed.
    pub drafted: usize,
    /// It came to its end.
    pub ended: bool,
}

impl<B: Kernels> Running<B> {
    /// Begins with a request, behind what of its prompt is held; what it had taken if its options do not fit, which it was
    /// told then.
    pub fn begin(
        submitted: Submitted,
        cache: CacheShape,
        shared: &Shared,
        loaded: &LoadedModel<B>,
        prefixes: Option<&mut PrefixTree<B>>,
        device: &B::Device,
    ) -> Result<Self, Taken> {
        let model = submitted.request.model;
        let reused = match &submitted.request.work {
            // Every position of these has something to say.
            Work::Complete(options) => options.prompt_logprobs.is_none(),
            Work::Embed => false,
        };
        let Some((mut answer, prompt)) = Answer::new(submitted, shared) else {
            return Err(Taken { requests: 1, cache_bytes: cache.bytes });
        };
        let draft = loaded.draft.as_ref();
        let draft = draft.map(|draft| Sequence::new(draft, prompt.clone(), cache.options, device));
        let mut sequence = Sequence::new(&loaded.decoder, prompt, cache.options, device);
        if reused && let Some(prefixes) = prefixes {
            // The last token runs in any case: its logits are wanted.
            let prompt = sequence.tokens()[..sequence.tokens().len() - 1].to_vec();
            let held = prefixes.longest(&prompt, |span, count| sequence.skip(span, count));
            answer.skip(held);
            shared.lock_statistics().cached_prompt_tokens += held as u64;
        }
        let kept = sequence.seen();
        let (capacity, cache_bytes) = (cache.options.capacity, cache.bytes);
        Ok(Self { model, sequence, draft, answer, capacity, cache_bytes, kept, drafted: 0, ended: false })
    }

    /// Tokens that may be guessed at once: the last one drawn is never a guess, and guesses must not change the
    /// frequencies of the tokens before them.
    pub fn room_for_drafts(&self, model: &Decoder<B>) -> usize {
        if self.drafted == 0 && self.sequence.switches(model) {
            return 0;
        }
        let drawn = self.sequence.tokens().len() - self.drafted;
        let rotary = model.config().rotary().iter();
        let unchanged = rotary.map(|config| config.unchanged_for(drawn)).min().unwrap_or(usize::MAX);
        self.answer.remaining(drawn).saturating_sub(1).min(self.capacity - drawn).min(unchanged)
    }

    /// Appends guesses.
    pub fn guess(&mut self, tokens: &[u32]) {
        self.sequence.extend(tokens);
        self.drafted += tokens.len();
        if let Some(draft) = &mut self.draft {
            draft.extend(tokens);
        }
    }
}

/// Drops requests that ended, whose client left, or whose time is over; what they had taken.
pub(super) fn dismiss<B: Kernels>(running: &mut Vec<Running<B>>, shared: &Shared) -> Taken {
    let mut taken = Taken::default();
    running.retain_mut(|Running { answer, cache_bytes, ended, .. }| {
        let gone = !*ended && answer.is_cancelled();
        let over = !*ended && !gone && answer.is_late();
        if gone || over {
            shared.lock_statistics().count_dropped(gone);
            *ended = answer.fail(GenerateError::Deadline).is_break();
            answer.tell();
        }
        if *ended {
            taken.requests += 1;
            taken.cache_bytes += *cache_bytes;
        }
        !*ended
    });
    taken
}

/// Tokens of prompts in a pass, `prefill_tokens` at most: a fourth of them where anyone decodes, so that nobody waits long
/// for a token, or to be taken in.
pub(super) fn prompt_tokens(prefill_tokens: usize, decodes: bool) -> usize {
    if decodes { prefill_tokens.div_ceil(4) } else { prefill_tokens }.max(1)
}

/// New tokens of each of some requests in the next pass, given those that each has.
///
/// Requests that decode take part with all they have; `left` tokens go to prompts, first come first served.
pub(super) fn plan(unseen: &[usize], reading: &[bool], mut left: usize) -> Vec<usize> {
    let share = |(unseen, reading): (&usize, &bool)| {
        if !reading {
            return *unseen;
        }
        let share = left.min(*unseen);
        left -= share;
        share
    };
    unseen.iter().zip(reading).map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prompts_share_what_decoding_leaves() {
        assert_eq!(plan(&[1000], &[true], 512), [512]);
        assert_eq!(plan(&[300, 300, 5], &[true; 3], 512), [300, 212, 0]);
        assert_eq!(plan(&[1, 300, 3, 20], &[false, true, false, true], 32), [1, 32, 3, 0]);
    }

    proptest! {
        #[test]
        fn someone_goes_on_and_nobody_takes_more_than_they_have(
            requests in proptest::collection::vec((1usize..2000, any::<bool>()), 1..20),
            prefill_tokens in 1usize..600,
        ) {
            let (unseen, reading): (Vec<usize>, Vec<bool>) = requests.into_iter().unzip();
            let plan = plan(&unseen, &reading, prefill_tokens);
            prop_assert!(plan.iter().sum::<usize>() > 0);
            let prompts = plan.iter().zip(&reading).filter(|(_, reading)| **reading);
            prop_assert!(prompts.map(|(share, _)| share).sum::<usize>() <= prefill_tokens);
            for ((share, unseen), reading) in plan.iter().zip(&unseen).zip(&reading) {
                prop_assert!(share <= unseen && (*reading || share == unseen));
            }
        }
    }
}
