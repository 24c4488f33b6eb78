//! Single tokens as text, for those who ask how likely each was.

use std::borrow::Cow;
use std::sync::Arc;

use smelt_text::Tokenizer;

/// The bytes of every token of a vocabulary.
#[derive(Debug)]
pub struct Spelling {
    tokenizer: Arc<Tokenizer>,
    bytes: Vec<Option<Vec<u8>>>,
}

impl Spelling {
    /// Spells the whole vocabulary: too long for the thread that serves connections.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { bytes: tokenizer.token_bytes(), tokenizer }
    }

    /// The bytes of a token; of a special one its name.
    pub fn bytes(&self, id: u32) -> Cow<'_, [u8]> {
        match self.bytes.get(id as usize) {
            Some(Some(bytes)) => bytes.into(),
            _ => self.tokenizer.id_to_token(id).unwrap_or_default().into_bytes().into(),
        }
    }

    /// A token as text; bytes that are no text as OpenAI writes them.
    pub fn text(&self, id: u32) -> String {
        let bytes = self.bytes(id);
        match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let digits: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("bytes:{digits}")
            }
        }
    }
}
