//! Requests that run: who takes part in the next pass with how many tokens.

use smelt_backend::Kernels;
use smelt_model::Decoder;

use super::answer::Answer;
use crate::decoding::Sequence;

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
