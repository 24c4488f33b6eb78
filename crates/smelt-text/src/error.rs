//! What can go wrong between text and token ids.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the `tokenizers` crate.
type Cause = Box<dyn Error + Send + Sync>;

/// Failure to read, train or apply a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file could not be read or written; what was there before is untouched.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file meant.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not a tokenizer in the `tokenizer.json` format.
    #[error("`{name}` is not a tokenizer in the `tokenizer.json` format")]
    Parse {
        /// Path of the file, or what the bytes are called.
        name: String,
        /// Where parsing stopped.
        source: Cause,
    },
    /// The vocabulary asked for cannot hold what every byte-level vocabulary holds.
    #[error(
        "`vocab_size` {requested} is too small, expected at least {minimum} (256 bytes and the special tokens)"
    )]
    VocabTooSmall {
        /// Entries asked for.
        requested: usize,
        /// The fewest possible.
        minimum: usize,
    },
    /// A JSON file does not parse, or is no object.
    #[error("cannot parse `{}`", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A key of a JSON file holds something else than expected.
    #[error("`{key}` in `{}` is not {expected}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A line of a text file holds something else than expected.
    #[error("`{}`, line {line}: expected {expected}", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What it should hold.
        expected: &'static str,
    },
    /// A SentencePiece model is damaged, or cannot be converted.
    #[error("`{name}` is not a SentencePiece model that can be read")]
    SentencePiece {
        /// Path of the file.
        name: String,
        /// Why.
        source: Cause,
    },
    /// The vocabulary of a GGUF file contradicts itself, or is of a kind that is not known.
    #[error("the vocabulary of the GGUF file {reason}")]
    GgufVocabulary {
        /// What is wrong with it.
        reason: String,
    },
    /// A tokenizer does something that llama.cpp has no name for.
    #[error("GGUF cannot hold this tokenizer: {reason}")]
    NotForGguf {
        /// What it does.
        reason: String,
    },
    /// A chat template does not parse.
    #[error("the chat template `{name}` does not parse")]
    TemplateSyntax {
        /// Name of the template in its folder.
        name: String,
        /// Where and why.
        source: Cause,
    },
    /// A chat template refuses a conversation, by `raise_exception`.
    #[error("the chat template refuses the conversation: {message}")]
    TemplateRaised {
        /// What the template says.
        message: String,
    },
    /// A chat template cannot be rendered with a conversation.
    #[error("the chat template cannot be rendered with this conversation")]
    Render {
        /// Where and why.
        source: Cause,
    },
    /// The text of a message was not found in the rendered conversation.
    #[error(
        "the chat template changes message {message} so that its place in the text is unknown; \
         mark what the assistant writes by `{{% generation %}}` in the template"
    )]
    NoSpans {
        /// Index of the message.
        message: usize,
    },
    /// Training failed inside the `tokenizers` crate.
    #[error("cannot train a tokenizer")]
    Train {
        /// What the crate said.
        source: Cause,
    },
    /// Training was broken off by whoever watched it.
    #[error("training the tokenizer was stopped")]
    Stopped,
    /// A text could not be encoded.
    #[error("cannot encode a text of {bytes} bytes")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the crate said.
        source: Cause,
    },
    /// Ids could not be decoded.
    #[error("cannot decode {tokens} tokens")]
    Decode {
        /// Number of ids.
        tokens: usize,
        /// What the crate said.
        source: Cause,
    },
}

impl TextError {
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: "read", path: path.to_owned(), source }
    }

    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: "write", path: path.to_owned(), source }
    }
}
