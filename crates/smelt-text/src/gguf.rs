//! Vocabularies as GGUF files hold them: lists of tokens, scores, kinds and merges, and the name of a way to
//! split text.
//!
//! From there to a pipeline of the `tokenizers` crate and back. Knows nothing of the file itself.

mod read;
mod splits;
mod write;

/// What a GGUF file says of its tokenizer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `gpt2` (byte-level BPE), `llama` (SentencePiece's BPE) or `t5` (unigram).
    pub model: String,
    /// How text is split before byte-level BPE.
    pub split: String,
    /// The tokens in id order.
    pub tokens: Vec<String>,
    /// The score of each; none in byte-level vocabularies.
    pub scores: Vec<f32>,
    /// What each token is; all are ordinary if this is empty.
    pub kinds: Vec<TokenKind>,
    /// Pairs that are joined, first to last, each with a space between.
    pub merges: Vec<String>,
    /// The token that begins a text.
    pub begin: Option<u32>,
    /// The token that ends a text.
    pub end: Option<u32>,
    /// The token for what no other expresses.
    pub unknown: Option<u32>,
    /// The token that fills rows.
    pub padding: Option<u32>,
    /// Every text begins with `begin`.
    pub adds_begin: Option<bool>,
    /// Every text ends with `end`.
    pub adds_end: Option<bool>,
    /// A space is put before a text.
    pub adds_space: Option<bool>,
    /// Runs of spaces become one.
    pub joins_spaces: Option<bool>,
    /// A compiled map of characters, as in SentencePiece models.
    pub charsmap: Vec<u8>,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Learned.
    Normal = 1,
    /// Stands for what no other expresses.
    Unknown = 2,
    /// Never met in text.
    Control = 3,
    /// Never split.
    UserDefined = 4,
    /// Fills up the vocabulary.
    Unused = 5,
    /// One byte.
    Byte = 6,
}

impl TokenKind {
    /// The kind of this number, if there is one.
    pub fn from_number(number: i64) -> Option<Self> {
        use TokenKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};
        [Normal, Unknown, Control, UserDefined, Unused, Byte].into_iter().find(|kind| *kind as i64 == number)
    }
}
