//! What can go wrong between a prompt and its completion.

use smelt_model::ModelError;

/// Errors of sampling and generation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A sampling option does not fit.
    #[error("`{option}` is {found}, expected {expected}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// What would fit.
        expected: &'static str,
    },
    /// Whoever asked wants it no more.
    #[error("nobody wants the answer any more")]
    Unwanted,
    /// There is nothing to continue.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// The prompt leaves no room for a token.
    #[error("the prompt has {prompt} tokens, the context of this model holds {context}")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// `max_position_embeddings`, times what rope scaling adds.
        context: usize,
    },
    /// The prompt has an id that the model does not know.
    #[error("the prompt does not fit the model")]
    Prompt(#[source] ModelError),
    /// As many requests wait as may.
    #[error("{limit} requests are waiting already")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The engine takes no more requests, or is gone.
    #[error("the engine is shutting down")]
    ShutDown,
    /// No model has this index.
    #[error("there is no model {index}, expected an index below {models}")]
    NoModel {
        /// What was asked for.
        index: usize,
        /// How many there are.
        models: usize,
    },
    /// The request can never run: its keys and values would not fit.
    #[error("{tokens} tokens need {needed_bytes} bytes of keys and values, the limit is {limit_bytes}")]
    TooLarge {
        /// Tokens of the prompt and what may follow.
        tokens: usize,
        /// Memory of these.
        needed_bytes: u64,
        /// What there is.
        limit_bytes: u64,
    },
    /// The deadline of the request came.
    #[error("the request took longer than it was allowed to")]
    Deadline,
    /// A model could not be loaded.
    #[error("cannot load model `{name}`")]
    Load {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The prompts kept in a file cannot be used.
    #[error(transparent)]
    PrefixFile(#[from] crate::engine::PrefixFileError),
    /// The tokenizer refused the tokens.
    #[error(transparent)]
    Text(#[from] smelt_text::TextError),
    /// The model computed something that is no number.
    #[error("the model returned no finite logit, its weights may be damaged")]
    NotFinite,
    /// The sampling options and the grammar together leave nothing to draw.
    #[error("the grammar and `no_repeat_ngram_size` forbid every token")]
    NothingAllowed,
    /// A schema, regular expression or grammar cannot be followed.
    #[error("the {kind} cannot be followed: {reason}")]
    Grammar {
        /// `JSON schema`, `regular expression` or `grammar`.
        kind: &'static str,
        /// What is wrong with it, or with the vocabulary for it.
        reason: String,
    },
    /// A token that the model has no logit for.
    #[error("the token {token} is not in the vocabulary of {vocabulary}")]
    NotInVocabulary {
        /// The token.
        token: u32,
        /// Number of logits.
        vocabulary: usize,
    },
}
