//! A set of token ids, one bit each.

/// The tokens that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    pub(crate) const WORD_BITS: usize = u32::BITS as usize;

    /// Of words of 32 tokens each, the lowest id in the lowest bit.
    pub fn from_words(mut words: Vec<u32>) -> Self {
        // Equal sets are equal values, whatever room they had.
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }

    /// Whether `id` is in the set; ids beyond it are not.
    pub fn allows(&self, id: u32) -> bool {
        let bit = id as usize % Self::WORD_BITS;
        self.words.get(id as usize / Self::WORD_BITS).is_some_and(|word| word >> bit & 1 == 1)
    }

    /// The ids of the set, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.words).flat_map(|(at, word)| {
            let base = at * u32::BITS;
            (0..u32::BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit)
        })
    }

    /// The bits.
    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }
}

impl FromIterator<u32> for TokenMask {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut words = Vec::new();
        for id in ids {
            let at = id as usize / Self::WORD_BITS;
            if words.len() <= at {
                words.resize(at + 1, 0);
            }
            words[at] |= 1 << (id as usize % Self::WORD_BITS);
        }
        Self { words }
    }
}
