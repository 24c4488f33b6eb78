//! How often each token came, kept up to date with a sequence that mostly grows.

use std::collections::HashMap;

/// How often one token came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub prompt: u32,
    pub generated: u32,
}

/// Counts of the tokens of a sequence.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    tokens: Vec<u32>,
    prompt_length: usize,
    counts: HashMap<u32, Count>,
}

impl History {
    /// Counts `tokens`, of which the first `prompt_length` are the prompt. Only what differs from the last
    /// call is gone over: what was appended, or taken back.
    pub(super) fn follow(&mut self, tokens: &[u32], prompt_length: usize) {
        if self.prompt_length != prompt_length {
            *self = Self { prompt_length, ..Self::default() };
        }
        let shared = match tokens.starts_with(&self.tokens) {
            true => self.tokens.len(),
            false => self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count(),
        };
        while self.tokens.len() > shared {
            self.pop();
        }
        for token in &tokens[shared..] {
            self.push(*token);
        }
    }

    /// Each token that came, in no order.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u32, Count)> {
        self.counts.iter().map(|(token, count)| (*token, *count))
    }

    fn push(&mut self, token: u32) {
        let count = self.counts.entry(token).or_default();
        match self.tokens.len() < self.prompt_length {
            true => count.prompt += 1,
            false => count.generated += 1,
        }
        self.tokens.push(token);
    }

    fn pop(&mut self) {
        let Some(token) = self.tokens.pop() else { return };
        let Some(count) = self.counts.get_mut(&token) else { return };
        match self.tokens.len() < self.prompt_length {
            true => count.prompt -= 1,
            false => count.generated -= 1,
        }
        if count.prompt + count.generated == 0 {
            self.counts.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever came before, the counts are those of the sequence alone.
        #[test]
        fn counts_follow_any_sequence(
            steps in proptest::collection::vec((proptest::collection::vec(0u32..4, 0..12), 0usize..6), 1..8),
        ) {
            let mut history = History::default();
            for (tokens, prompt_length) in steps {
                history.follow(&tokens, prompt_length);
                let mut expected = BTreeMap::<u32, (u32, u32)>::new();
                for (at, token) in tokens.iter().enumerate() {
                    let count = expected.entry(*token).or_default();
                    if at < prompt_length { count.0 += 1 } else { count.1 += 1 }
                }
                let found: BTreeMap<u32, (u32, u32)> =
                    history.counts().map(|(token, count)| (token, (count.prompt, count.generated))).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
