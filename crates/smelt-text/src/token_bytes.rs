//! The bytes of each token, for whoever has to know a text before it is decoded: grammars.

use crate::Tokenizer;
use crate::byte_bpe::bytes_of;

/// Tokens that are asked for a word to stand in front of others.
const ANCHORS: u32 = 20_000;

impl Tokenizer {
    /// By id, the bytes that a token adds to a text that goes on with it: parts of characters too, where
    /// the vocabulary has such tokens. None for special tokens, ids without a token, and tokens whose text
    /// depends on what is before them.
    ///
    /// At the start of a text, some decoders drop a space; that is not considered here.
    pub fn token_bytes(&self) -> Vec<Option<Vec<u8>>> {
        let anchor = self.anchor();
        let bytes = |id| self.has_text(id).then(|| self.bytes_behind(id, anchor.as_ref())).flatten();
        (0..self.vocab_size() as u32).map(bytes).collect()
    }

    fn bytes_behind(&self, id: u32, anchor: Option<&(u32, String)>) -> Option<Vec<u8>> {
        let token = self.id_to_token(id)?;
        if self.is_byte_level() {
            // Added tokens may be spelled as they are.
            return Some(bytes_of(&token).unwrap_or_else(|| token.into_bytes()));
        }
        if self.is_fallback_byte(id) {
            let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
            return Some(vec![u8::from_str_radix(digits, 16).ok()?]);
        }
        let (anchor, before) = anchor?;
        let text = self.decode(&[*anchor, id]).ok()?;
        Some(text.strip_prefix(before.as_str())?.as_bytes().to_vec())
    }

    /// A token that is a word, with its text at the start.
    fn anchor(&self) -> Option<(u32, String)> {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        (0..ANCHORS.min(self.vocab_size() as u32)).filter(|id| self.has_text(*id)).find_map(|id| {
            let text = self.decode(&[id]).ok()?;
            is_word(&text).then_some((id, text))
        })
    }
}
