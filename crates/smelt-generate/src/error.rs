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
    /// The model computed something that is no number.
    #[error("the model returned no finite logit, its weights may be damaged")]
    NotFinite,
    /// The sampling options and the grammar together leave nothing to draw.
    #[error("the grammar and `no_repeat_ngram_size` forbid every token")]
    NothingAllowed,
    /// A token that the model has no logit for.
    #[error("the token {token} is not in the vocabulary of {vocabulary}")]
    NotInVocabulary {
        /// The token.
        token: u32,
        /// Number of logits.
        vocabulary: usize,
    },
}
