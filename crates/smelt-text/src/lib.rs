//! Text of smelt: tokenizers, their training, and streaming decoding.
//!
//! Names no tensor and no corpus: text goes in, token ids come out, and the other way round.
//! Tokenization itself is the `tokenizers` crate, so ids agree with the Python ecosystem.

mod atomic_file;
mod byte_bpe;
mod error;
mod pieces;
mod stream;
mod tokenizer;

pub use atomic_file::{AtomicFile, write_atomically};
pub use byte_bpe::{BpeTraining, END_OF_TEXT, train_byte_level_bpe};
pub use error::TextError;
pub use pieces::byte_level_pieces;
pub use stream::StreamDecoder;
pub use tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer};
