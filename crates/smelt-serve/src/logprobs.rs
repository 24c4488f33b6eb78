//! Log-probabilities as chat answers and completions tell them.

use serde::Serialize;
use smelt_generate::TokenLogprobs;

use crate::spelling::Spelling;

/// One token in a chat answer.
#[derive(Debug, Clone, Serialize)]
pub struct ChatLogprob {
    #[serde(flatten)]
    token: Alternative,
    top_logprobs: Vec<Alternative>,
}

#[derive(Debug, Clone, Serialize)]
struct Alternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl ChatLogprob {
    /// Spells the tokens of `found`.
    pub fn new(found: &TokenLogprobs, spelling: &Spelling) -> Self {
        let alternative = |id: u32, logprob: f32| Alternative {
            token: spelling.text(id),
            logprob: finite(logprob),
            bytes: spelling.bytes(id).into(),
        };
        let top_logprobs = found.top.iter().map(|(id, logprob)| alternative(*id, *logprob)).collect();
        Self { token: alternative(found.token, found.logprob), top_logprobs }
    }
}

/// The tokens of a completion, in columns.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CompletionLogprobs {
    tokens: Vec<String>,
    /// The first token of a text has none.
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<serde_json::Map<String, serde_json::Value>>>,
    /// Characters before each token.
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Adds the token `id`, which stands behind `offset` characters; returns the offset behind it.
    pub fn push(
        &mut self,
        id: u32,
        logprobs: Option<&TokenLogprobs>,
        offset: usize,
        spelling: &Spelling,
    ) -> usize {
        let token = spelling.text(id);
        let top = logprobs.map(|found| {
            let mut top = serde_json::Map::new();
            // Of tokens that are spelled alike the likeliest; the token itself is always among them.
            for (id, logprob) in found.top.iter().chain([&(found.token, found.logprob)]) {
                top.entry(spelling.text(*id)).or_insert_with(|| finite(*logprob).into());
            }
            top
        });
        let next = offset + token.chars().count();
        self.tokens.push(token);
        self.token_logprobs.push(logprobs.map(|found| finite(found.logprob)));
        self.top_logprobs.push(top);
        self.text_offset.push(offset);
        next
    }

    /// Adds the tokens of `more`, which come behind these.
    pub fn extend(&mut self, more: Self) {
        self.tokens.extend(more.tokens);
        self.token_logprobs.extend(more.token_logprobs);
        self.top_logprobs.extend(more.top_logprobs);
        self.text_offset.extend(more.text_offset);
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// JSON has no infinity; this is what OpenAI says of the impossible.
fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}
