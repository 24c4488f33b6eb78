//! Structured output: text that follows a JSON schema, a regular expression or a grammar.
//!
//! At each position the sampler may draw only from the tokens with which the text can still be completed.
//! Which those are is worked out by llguidance: a lexer of derivatives of regular expressions and an Earley
//! parser over a trie of the vocabulary. Knows nothing of models: whoever draws asks a [`Constraint`] for its
//! mask and tells it the token.

mod compiler;
mod constraint;

use serde_json::{Value, json};

pub use compiler::GrammarCompiler;
pub use constraint::Constraint;

/// What a text must follow.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON schema. Keywords that cannot be followed are refused by name; what is no keyword says nothing.
    JsonSchema(Value),
    /// A regular expression in the syntax of the `regex` crate, which the whole text must match.
    Regex(String),
    /// A context-free grammar in llguidance's variant of Lark; the text is what `start` derives.
    Lark(String),
}

impl Grammar {
    /// Text that is JSON and fits `schema`.
    pub fn json_schema(schema: &Value) -> Self {
        Self::JsonSchema(schema.clone())
    }

    /// Text that is any JSON object.
    pub fn json_object() -> Self {
        Self::JsonSchema(json!({"type": "object"}))
    }

    /// Text that the whole of `pattern` matches.
    pub fn regex(pattern: &str) -> Self {
        Self::Regex(pattern.to_owned())
    }

    /// Text of a grammar.
    pub fn lark(grammar: &str) -> Self {
        Self::Lark(grammar.to_owned())
    }

    fn source_bytes(&self) -> usize {
        match self {
            Self::JsonSchema(schema) => schema.to_string().len(),
            Self::Regex(source) | Self::Lark(source) => source.len(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "grammar",
        }
    }
}
