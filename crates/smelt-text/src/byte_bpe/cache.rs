//! Words already encoded, so that frequent ones are encoded once.

use std::ops::Range;

use ahash::AHashMap;

/// Ids held before the cache starts anew.
const MOST_IDS: usize = 1 << 20;

/// A longer word hardly comes again.
const LONGEST_WORD: usize = 64;

/// A bounded map from words to their ids.
#[derive(Debug, Default)]
pub struct WordCache {
    /// Words of up to 15 bytes, packed: comparing them follows no pointer.
    short: AHashMap<u128, Range<u32>>,
    long: AHashMap<Box<[u8]>, Range<u32>>,
    ids: Vec<u32>,
}

impl WordCache {
    /// Appends the ids of `word` to `ids`, from memory or by `encode`.
    pub fn extend(&mut self, ids: &mut Vec<u32>, word: &[u8], encode: impl FnOnce(&[u8], &mut Vec<u32>)) {
        if word.len() > LONGEST_WORD {
            return encode(word, ids);
        }
        let packed = packed(word);
        let known = match packed {
            Some(packed) => self.short.get(&packed),
            None => self.long.get(word),
        };
        if let Some(Range { start, end }) = known {
            return ids.extend_from_slice(&self.ids[*start as usize..*end as usize]);
        }
        let first = ids.len();
        encode(word, ids);
        self.insert(word, packed, &ids[first..]);
    }

    fn insert(&mut self, word: &[u8], packed: Option<u128>, ids: &[u32]) {
        if self.ids.len() + ids.len() > MOST_IDS {
            self.short.clear();
            self.long.clear();
            self.ids.clear();
        }
        let position = |at: usize| u32::try_from(at).expect("`MOST_IDS` fits");
        let start = position(self.ids.len());
        self.ids.extend_from_slice(ids);
        let place = start..position(self.ids.len());
        match packed {
            Some(packed) => self.short.insert(packed, place),
            None => self.long.insert(word.into(), place),
        };
    }
}

/// The bytes of a short word and, in the last place, their number.
fn packed(word: &[u8]) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes[..15].get_mut(..word.len())?.copy_from_slice(word);
    bytes[15] = u8::try_from(word.len()).expect("at most 15");
    Some(u128::from_le_bytes(bytes))
}
