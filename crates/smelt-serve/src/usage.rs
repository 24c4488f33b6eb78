//! Tokens that a request took, as answers tell them.

use serde::Serialize;
use smelt_generate::engine::PromptReport;

/// Counts of tokens.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub total_tokens: usize,
    pub prompt_tokens_details: PromptDetails,
}

/// Of the prompt's tokens.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PromptDetails {
    /// Held from an earlier request.
    pub cached_tokens: usize,
}

impl Usage {
    /// Counts a prompt.
    pub fn add_prompt(&mut self, report: &PromptReport) {
        self.prompt_tokens += report.tokens;
        self.prompt_tokens_details.cached_tokens += report.cached_tokens;
        self.total_tokens += report.tokens;
    }

    /// Counts a token of an answer.
    pub fn add_token(&mut self) {
        self.completion_tokens += 1;
        self.total_tokens += 1;
    }
}
