//! The ways in which models write tool calls.

use smelt_text::Tokenizer;

/// How a model writes a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFormat {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, several one after the other.
    Hermes,
    /// `{"name": ..., "parameters": {...}}` as the whole answer, perhaps behind `<|python_tag|>`, several with `;`
    /// between them.
    Llama,
    /// `[TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...]`, or `[TOOL_CALLS]name{...}` for each.
    Mistral,
    /// The answer is forced to be one call and nothing else.
    Forced,
}

impl CallFormat {
    /// The one that a chat template teaches; none if it knows no tools.
    pub fn of_template(source: &str) -> Option<Self> {
        if !source.contains("tools") {
            return None;
        }
        if source.contains("[TOOL_CALLS]") {
            Some(Self::Mistral)
        } else if source.contains("<tool_call>") {
            Some(Self::Hermes)
        } else if source.contains("\"parameters\":") || source.contains("<|python_tag|>") {
            Some(Self::Llama)
        } else {
            None
        }
    }

    /// What opens a call, wherever it stands.
    pub fn opening(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some("<tool_call>"),
            Self::Llama => Some("<|python_tag|>"),
            Self::Mistral => Some("[TOOL_CALLS]"),
            Self::Forced => None,
        }
    }

    /// What a prompt ends with, for the model to write a call next.
    pub fn forced_prefix(self) -> &'static str {
        match self {
            Self::Hermes => "<tool_call>\n",
            Self::Mistral => "[TOOL_CALLS] [",
            Self::Llama | Self::Forced => "",
        }
    }

    /// The key of a call's arguments.
    pub fn arguments_key(self) -> &'static str {
        if self == Self::Llama { "parameters" } else { "arguments" }
    }

    /// The id of the opening where it is one token, which decoding may pass over.
    pub fn opening_token(self, tokenizer: &Tokenizer) -> Option<u32> {
        let opening = self.opening()?;
        let id = tokenizer.token_to_id(opening)?;
        tokenizer.decode(&[id]).is_ok_and(|text| text.is_empty()).then_some(id)
    }
}
