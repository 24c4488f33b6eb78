//! Text of smelt: tokenizers, their training, streaming decoding, and chat templates.
//!
//! Names no tensor and no corpus: text goes in, token ids come out, and the other way round.
//! Tokenization itself is the `tokenizers` crate, so ids agree with the Python ecosystem.

mod atomic_file;
mod byte_bpe;
mod chat;
mod error;
mod formats;
mod gguf;
mod pieces;
mod special_tokens;
mod split;
mod stream;
mod token_bytes;
mod tokenizer;

pub use atomic_file::{AtomicFile, write_atomically};
pub use byte_bpe::{
    BpeTraining, CHAT_TOKENS, END_OF_TEXT, TrainingProgress, train_byte_level_bpe,
    train_byte_level_bpe_watched,
};
pub use chat::{CHAT_TEMPLATE_FILE, ChatTemplate, Conversation, RenderedSpans};
pub use error::TextError;
pub use gguf::{GgufVocabulary, TokenKind};
pub use pieces::byte_level_pieces;
pub use stream::StreamDecoder;
pub use tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer};
